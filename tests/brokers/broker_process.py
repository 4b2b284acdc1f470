"""A broker of `make brokers` in a process of its own, on loopback, with the data of one run."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from servers import await_port, free_port

HERE = Path(__file__).parent
_READY_SECONDS = 120.0


def _artemis(fetched: Path, folder: Path, port: int) -> list[str]:
    instance = folder / "instance"
    command = [fetched / "artemis/bin/artemis", "create", instance, "--silent", "--allow-anonymous"]
    options = ["--user=u", "--password=p", "--host=127.0.0.1", f"--default-port={port}", "--no-web", "--no-autotune"]
    protocols = [f"--no-{protocol}-acceptor" for protocol in ("mqtt", "amqp", "hornetq", "stomp")]
    subprocess.run([*command, *options, *protocols], check=True, capture_output=True)
    return [str(instance / "bin/artemis"), "run"]


def _hivemq(fetched: Path, folder: Path, port: int) -> list[str]:
    (folder / "config.xml").write_text((HERE / "hivemq/config.xml").read_text().replace("{port}", str(port)))
    return ["java", "-Xmx512m", "-cp", f"{fetched}/hivemq/*", str(HERE / "hivemq/Broker.java"), str(folder)]


def _mochi(fetched: Path, folder: Path, port: int) -> list[str]:
    return [str(fetched / "mochi"), f"127.0.0.1:{port}", str(folder / "bolt.db")]


_COMMANDS: Mapping[str, Callable[[Path, Path, int], list[str]]] = {
    "artemis": _artemis,
    "hivemq": _hivemq,
    "mochi": _mochi,
}


@contextmanager
def running(name: str, fetched: Path, folder: Path) -> Iterator[int]:
    """Run the broker `name` from the folder `fetched`; gives its port. Its log and data are in `folder`."""
    port = free_port()
    command = _COMMANDS[name](fetched, folder, port)
    log = folder / "broker.log"
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, start_new_session=True)
    try:
        await_port(port, lambda: process.poll() is None, log, _READY_SECONDS)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        shutil.rmtree(folder)
