"""Real servers for tests: finds or starts them.

An MQTT broker comes from the first of: the URL in TEST_MQTT_URL, a container of eclipse-mosquitto:2 if Docker responds,
`mosquitto` on the PATH. An InfluxDB comes from the first of: the URL in TEST_INFLUX_URL (with an operator's token in
TEST_INFLUX_TOKEN), a container of influxdb:2.7, `influxd` on the PATH. Without any the test is skipped, or fails where
REQUIRE_SERVERS=1.
"""

import functools
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest

from ingress_store import InfluxUrl

_IMAGE = "eclipse-mosquitto:2"
_INFLUX_IMAGE = "influxdb:2.7"
_INFLUX_TOKEN = "token-of-the-tests"
_READY_SECONDS = 20.0
_CONFIGURATION = """\
listener {port} {address}
persistence true
persistence_location {data}/
autosave_interval 1
autosave_on_changes true
max_queued_messages 0
max_inflight_messages 1000
"""


@dataclass(frozen=True)
class Certificates:
    """The certificates of `make certs`, and an authority that signed none of them."""

    folder: Path
    stranger: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def cert(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}-key.pem"

    @property
    def of_broker(self) -> tuple[Path, ...]:
        return self.ca, self.cert("broker"), self.key("broker")


class MqttServer(Protocol):
    """A broker of our own to stop, kill and start; its data stays."""

    @property
    def folder(self) -> Path:
        """With its configuration and the files that this names."""
        ...

    @property
    def url(self) -> str: ...

    @property
    def port(self) -> int: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def reload(self) -> None: ...


class MosquittoProcess:
    """`mosquitto` from the PATH in a process of its own."""

    def __init__(self, binary: str, folder: Path, extra: str) -> None:
        self.port = free_port()
        self._binary = binary
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        configuration = _CONFIGURATION.format(port=self.port, address="127.0.0.1", data=folder)
        configuration += extra.replace(FOLDER, str(folder))
        if os.getuid() == 0:
            # Otherwise it changes to a user without write access here.
            configuration += "\nuser root\n"
        (folder / "mosquitto.conf").write_text(configuration)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        await_port(self.port, lambda: self._process.poll() is None, self.folder / "mosquitto.log")

    def stop(self) -> None:
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        self._end(subprocess.Popen.kill)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def reload(self) -> None:
        """Read the rights again; connections stay."""
        self._process.send_signal(signal.SIGHUP)

    def _end(self, how: Callable[[Any], None]) -> None:
        if self._process is not None:
            how(self._process)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None


class MosquittoContainer:
    """Mosquitto in a container, on a port that stays the same after a restart."""

    def __init__(self, folder: Path, extra: str) -> None:
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        # The fixtures remove their containers themselves; the reaper would need one more image.
        testcontainers_config.ryuk_disabled = True
        self.port = free_port()
        self.folder = folder
        configuration = _CONFIGURATION.format(port=1883, address="0.0.0.0", data="/mosquitto/data")
        configuration += extra.replace(FOLDER, "/mosquitto/config")
        (folder / "mosquitto.conf").write_text(configuration)
        self._container: Any = DockerContainer(_IMAGE).with_volume_mapping(str(folder), "/mosquitto/config", "rw")
        # Loopback only; `with_bind_ports` would listen on every address.
        self._container.ports[1883] = ("127.0.0.1", self.port)
        self._made = False

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._made = True
        await_port(self.port, lambda: True, None)

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=5)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def freeze(self) -> None:
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        self._container.get_wrapped_container().unpause()

    def reload(self) -> None:
        self._container.get_wrapped_container().kill(signal="SIGHUP")

    def remove(self) -> None:
        if self._made:
            self._container.stop()


def missing(what: str, how: str) -> NoReturn:
    """Skip the test, or fail it if REQUIRE_SERVERS=1."""
    text = f"no {what}: {how}"
    if os.environ.get("REQUIRE_SERVERS") == "1":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(port: int, alive: Callable[[], bool], log: Path | None, seconds: float = _READY_SECONDS) -> None:
    """Wait until something listens on `port`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and alive():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    tail = log.read_text(errors="replace")[-500:] if log else ""
    pytest.fail(f"expected a server on port {port} within {seconds:.0f} s, got none. {tail}")


@functools.cache
def docker_has(image: str) -> bool:
    """Whether Docker responds and has or gets `image`."""
    if shutil.which("docker") is None and "DOCKER_HOST" not in os.environ:
        return False
    import docker

    try:
        client = docker.from_env(timeout=60)
        try:
            client.images.get(image)
        except docker.errors.ImageNotFound:
            client.images.pull(image)
    except Exception:  # noqa: BLE001 - whatever the reason, this is no Docker for us
        return False
    return True


FOLDER = "{folder}"
"""Placeholder for the broker's folder in lines of its configuration."""


def own_mosquitto(folder: Path, extra: str = "allow_anonymous true\n") -> MqttServer:
    """A Mosquitto of our own with `extra` lines of configuration, not yet started; skips if there is none.

    `folder` has the files that `extra` refers to with FOLDER.
    """
    if docker_has(_IMAGE):
        return MosquittoContainer(folder, extra)
    # Packages install it in sbin, which is not on every user's path.
    binary = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if binary is None:
        missing("Mosquitto", "set TEST_MQTT_URL, start Docker, or install the package mosquitto")
    return MosquittoProcess(binary, folder, extra)


TLS_LISTENER = f"cafile {FOLDER}/ca.pem\ncertfile {FOLDER}/broker.pem\nkeyfile {FOLDER}/broker-key.pem\n"
"""Lines for a TLS listener with the files of `Certificates.of_broker`."""


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of broker, influxdb, admin-api and client, from the script of `make certs`."""
    if shutil.which("openssl") is None:
        missing("openssl", "install the package openssl")
    script = Path(__file__).resolve().parents[1] / "deploy" / "make-certs.sh"
    folders = [tmp_path_factory.mktemp("certs"), tmp_path_factory.mktemp("stranger")]
    for folder in folders:
        subprocess.run(["sh", str(script), str(folder)], check=True, timeout=60)
    return Certificates(folders[0], folders[1] / "ca.pem")


@pytest.fixture
def mosquitto_of(tmp_path: Path) -> Any:
    """Starts a Mosquitto of our own with lines of configuration: `mosquitto_of("allow_anonymous true")`.

    `files` are copied to FOLDER.
    """
    made: list[Any] = []

    def make(extra: str = "allow_anonymous true\n", files: Iterable[Path] = ()) -> MqttServer:
        folder = tmp_path / f"mosquitto-{len(made)}"
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        server = own_mosquitto(folder, extra)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.stop()
        if isinstance(server, MosquittoContainer):
            server.remove()


@pytest.fixture(scope="session")
def mosquitto_url(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The URL of a shared broker; each test uses its own topics and client names."""
    if url := os.environ.get("TEST_MQTT_URL"):
        yield url
        return
    server = own_mosquitto(tmp_path_factory.mktemp("mosquitto"))
    server.start()
    yield server.url
    server.stop()
    if isinstance(server, MosquittoContainer):
        server.remove()


@dataclass(frozen=True)
class InfluxPlace:
    """A server and its operator's token; each test creates its own organisation."""

    url: str
    token: str

    @property
    def store_url(self) -> InfluxUrl:
        return InfluxUrl.parse(self.url)


class InfluxServer(Protocol):
    """An InfluxDB of our own to stop, kill and start; its data stays."""

    @property
    def place(self) -> InfluxPlace: ...

    @property
    def port(self) -> int: ...

    @property
    def pid(self) -> int: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


class InfluxProcess:
    """`influxd` from the PATH in a process of its own."""

    def __init__(
        self, binary: str, folder: Path, certificates: Certificates | None = None, engine: Path | None = None
    ) -> None:
        self.port = free_port()
        self._folder = folder
        self._tls = certificates is not None
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [
            binary,
            f"--bolt-path={folder / 'influxd.bolt'}",
            f"--sqlite-path={folder / 'influxd.sqlite'}",
            f"--engine-path={engine or folder / 'engine'}",
            f"--http-bind-address=127.0.0.1:{self.port}",
            "--reporting-disabled",
            "--log-level=error",
        ]
        if certificates is not None:
            self._command += [
                f"--tls-cert={certificates.cert('influxdb')}",
                f"--tls-key={certificates.key('influxdb')}",
            ]

    @property
    def place(self) -> InfluxPlace:
        return InfluxPlace(f"influxdb{'s' if self._tls else ''}://127.0.0.1:{self.port}", _INFLUX_TOKEN)

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        with (self._folder / "influxd.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        await_influx(self.port, lambda: self._process.poll() is None, tls=self._tls)

    def stop(self) -> None:
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        self._end(subprocess.Popen.kill)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: Callable[[Any], None]) -> None:
        if self._process is not None:
            how(self._process)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None


class InfluxContainer:
    """InfluxDB in a container, on a port that stays the same after a restart."""

    def __init__(self, certificates: Certificates | None) -> None:
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        testcontainers_config.ryuk_disabled = True
        self.port = free_port()
        self._tls = certificates is not None
        self._container: Any = DockerContainer(_INFLUX_IMAGE)
        if certificates is not None:
            self._container.with_volume_mapping(str(certificates.folder), "/certs", "ro")
            self._container.with_env("INFLUXD_TLS_CERT", "/certs/influxdb.pem")
            self._container.with_env("INFLUXD_TLS_KEY", "/certs/influxdb-key.pem")
        self._container.ports[8086] = ("127.0.0.1", self.port)
        self._made = False

    @property
    def place(self) -> InfluxPlace:
        return InfluxPlace(f"influxdb{'s' if self._tls else ''}://127.0.0.1:{self.port}", _INFLUX_TOKEN)

    @property
    def pid(self) -> int:
        """The process id; InfluxDB must be started."""
        container = self._container.get_wrapped_container()
        container.reload()
        return container.attrs["State"]["Pid"]

    def start(self) -> None:
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._made = True
        await_influx(self.port, lambda: True, tls=self._tls)

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=15)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def freeze(self) -> None:
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        self._container.get_wrapped_container().unpause()

    def remove(self) -> None:
        if self._made:
            self._container.stop()


def await_influx(port: int, alive: Callable[[], bool], *, tls: bool = False) -> None:
    """Wait until the server responds, and set it up if needed."""
    url = f"http{'s' if tls else ''}://127.0.0.1:{port}/api/v2/setup"
    context = ssl._create_unverified_context() if tls else None
    deadline = time.monotonic() + 3 * _READY_SECONDS
    while time.monotonic() < deadline and alive():
        try:
            with urllib.request.urlopen(url, timeout=2, context=context) as answer:
                if not json.load(answer)["allowed"]:
                    return
            body = {
                "username": "tests",
                "password": "tests-tests",
                "org": "tests",
                "bucket": "tests",
                "token": _INFLUX_TOKEN,
            }
            request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
            urllib.request.urlopen(request, timeout=10, context=context).close()
        except (urllib.error.URLError, OSError, ValueError):
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"expected InfluxDB on port {port} within {3 * _READY_SECONDS:.0f} s, got none")


def own_influx(folder: Path, certificates: Certificates | None = None, engine: Path | None = None) -> InfluxServer:
    """An InfluxDB of our own, over TLS with `certificates`, not yet started; skips if there is none.

    With its data in the folder `engine` it is a process and no container, which has its own disk.
    """
    if engine is None and docker_has(_INFLUX_IMAGE):
        return InfluxContainer(certificates)
    binary = shutil.which("influxd")
    if binary is None:
        missing("InfluxDB", "set TEST_INFLUX_URL and TEST_INFLUX_TOKEN, start Docker, or put influxd 2.7 on the PATH")
    return InfluxProcess(binary, folder, certificates, engine)


def _end_influx(server: InfluxServer) -> None:
    if isinstance(server, InfluxContainer):
        server.remove()
    else:
        server.stop()


@pytest.fixture
def influx_of(tmp_path: Path) -> Any:
    """Starts and sets up an InfluxDB of our own: `influx_of()`; over TLS with `influx_of(certificates)`; with its data
    in a folder with `influx_of(engine=folder)`.
    """
    made: list[InfluxServer] = []

    def make(certificates: Certificates | None = None, engine: Path | None = None) -> InfluxServer:
        folder = tmp_path / f"influx-{len(made)}"
        folder.mkdir()
        server = own_influx(folder, certificates, engine)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        _end_influx(server)


@pytest.fixture(scope="session")
def influx_place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A shared InfluxDB; each test creates its own organisation."""
    if url := os.environ.get("TEST_INFLUX_URL"):
        url = url.replace("http://", "influxdb://").replace("https://", "influxdbs://")
        yield InfluxPlace(url, os.environ.get("TEST_INFLUX_TOKEN", ""))
        return
    server = own_influx(tmp_path_factory.mktemp("influx"))
    server.start()
    yield server.place
    _end_influx(server)
