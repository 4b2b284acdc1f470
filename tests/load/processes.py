"""The stack as measured processes: Mosquitto, InfluxDB, the simulator, the services."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from servers import InfluxProcess, MosquittoProcess, free_port

SERVICES = {
    "kraken-gateway": "kraken_gateway",
    "aggregator": "aggregator",
    "influx-writer": "influx_writer",
    "admin-api": "admin_api",
}
"""The services and the modules that start them."""

_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 20
_BROKER = """\
allow_anonymous true
sys_interval 2
autosave_on_changes false
autosave_interval 10
max_queued_messages 1000000
max_queued_bytes 536870912
max_inflight_messages 10000
message_size_limit 4194304
"""
_TOKEN = "token-of-the-load-run"


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage of a process: CPU seconds since its start, current and maximum memory in MiB."""

    cpu: float
    memory: float
    peak: float


class Part:
    """One process of the stack; after `kill`, `start` restarts it."""

    def __init__(self, name: str, command: Sequence[str], settings: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.port = int(settings.get("HTTP_PORT", 0))
        self._command = list(command)
        self._settings = dict(settings)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._before = 0.0

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._settings, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it with SIGKILL; its usage so far still counts."""
        if self._process is not None:
            self._before = self.usage().cpu
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it as Docker does (SIGTERM)."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def usage(self) -> Usage:
        """Its usage until now."""
        return usage_of(self._process.pid, self._before) if self._process is not None else Usage(self._before, 0, 0)


def usage_of(pid: int, before: float = 0.0) -> Usage:
    """The usage of the process `pid`; `before`: CPU seconds of its predecessors."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except (FileNotFoundError, ProcessLookupError):
        return Usage(before, 0, 0)
    memory, peak = (int(status.get(name, "0 kB").split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return Usage(before + (int(fields[11]) + int(fields[12])) / _TICKS, memory, peak)


ServerT = TypeVar("ServerT", MosquittoProcess, InfluxProcess)


class _MeasuredServer(Generic[ServerT]):
    """A server of the tests whose usage is measured."""

    def __init__(self, server: ServerT) -> None:
        self._server = server

    def start(self) -> None:
        """Start it, and set it up if needed."""
        self._server.start()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._server.kill()

    def stop(self) -> None:
        """End it."""
        self._server.stop()

    def usage(self) -> Usage:
        """Its usage until now."""
        return usage_of(self._server.pid)


class Broker(_MeasuredServer[MosquittoProcess]):
    """Mosquitto, with the queue limits of deploy/mosquitto."""

    name = "mosquitto"

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if binary is None:
            raise SystemExit("expected mosquitto on the PATH: install the package mosquitto")
        folder.mkdir()
        super().__init__(MosquittoProcess(binary, folder, _BROKER))
        self.url = self._server.url


class Influx(_MeasuredServer[InfluxProcess]):
    """influxd."""

    name = "influxd"

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("influxd")
        if binary is None:
            raise SystemExit("expected influxd 2.7 on the PATH")
        folder.mkdir()
        super().__init__(InfluxProcess(binary, folder, None))
        self.place = self._server.place


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a run: pairs, ticks per second over all of them, and instances of each service."""

    pairs: int
    rate: float
    seed: int = 1
    counts: Mapping[str, int] = field(default_factory=dict)


class Stack:
    """All of it in one folder; `parts` by name."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.shape = shape
        self.broker = Broker(folder / "mosquitto")
        self.influx = Influx(folder / "influx")
        self.control_port = free_port()
        kraken_port = free_port()
        simulator = {
            "SIM_PORT": str(kraken_port),
            "SIM_CONTROL_PORT": str(self.control_port),
            "SIM_SYMBOLS": str(shape.pairs),
            "SIM_RATE": str(shape.rate),
            "SIM_SEED": str(shape.seed),
        }
        self.simulator = Part(
            "simulator", [sys.executable, "-m", "kraken_simulator"], environment(simulator), folder / "simulator.log"
        )
        common = {
            "MQTT_URL": self.broker.url,
            "STORE_URL": self.influx.place.url,
            "INFLUX_ORG": "load",
            "INFLUX_TOKEN": self.influx.place.token,
            "ADMIN_TOKEN": _TOKEN,
            "SYMBOLS": "*",
            "KRAKEN_WS_URL": f"ws://127.0.0.1:{kraken_port}/v2",
            "KRAKEN_REST_URL": f"http://127.0.0.1:{kraken_port}",
        }
        self.services = [
            Part(
                f"{name}-{number + 1}",
                [sys.executable, "-m", module],
                environment({**common, "INSTANCE_ID": f"{name}-{number + 1}", "HTTP_PORT": str(free_port())}),
                folder / f"{name}-{number + 1}.log",
            )
            for name, module in SERVICES.items()
            for number in range(shape.counts.get(name, 1))
        ]
        self.admin_port = next(part.port for part in self.services if part.name == "admin-api-1")

    @property
    def parts(self) -> list[Part | Broker | Influx]:
        """Everything that is measured."""
        return [*self.services, self.broker, self.influx, self.simulator]

    def usage(self) -> dict[str, Usage]:
        """The usage of each part until now, by its name."""
        return {part.name: part.usage() for part in self.parts}

    def start(self) -> None:
        """Start the servers, then the simulator, then the services all at once."""
        self.broker.start()
        self.influx.start()
        self.simulator.start()
        await_http(f"http://127.0.0.1:{self.control_port}/health", 120)
        for part in self.services:
            part.start()

    def stop(self) -> None:
        """End everything."""
        for part in [*self.services, self.simulator, self.influx, self.broker]:
            part.stop()


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIM_", "INFLUX_", "MQTT_"))}
    return {**kept, **settings}


def await_http(url: str, seconds: float) -> None:
    """Wait until `url` responds; SystemExit after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"expected a response from {url} within {seconds:.0f} s, got none")
