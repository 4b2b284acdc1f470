"""The embedded MQTT broker of the one-process runner: rumqttd in a child process.

It is not durable (`docs/decisions/0001-the-embedded-broker.md`): it may lose messages in flight when a client
reconnects, and loses everything when it ends. Deployments use Mosquitto.
"""

import asyncio
import signal
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from iotcore import Broker

from ingress_common.backoff import Backoff
from ingress_common.bus.link import MAXIMUM_PACKET
from ingress_common.errors import StartError
from ingress_common.logs import get_logger

# rumqttd ends a connection that sends more than max_payload_size bytes, so the limit is the bus's own.
_CONFIGURATION = """\
id = 0

[router]
id = 0
max_connections = 200
max_outgoing_packet_count = 1000
max_segment_size = 16777216
max_segment_count = 20

[v5.1]
name = "mqtt5"
listen = "{address}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = {maximum}
max_inflight_count = 1000
dynamic_filters = true
"""

_FREE_PORT_TRIES = 20
_LOOK_SECONDS = 0.1
_BRIEF_SECONDS = 10.0
_MOST_BRIEF_RUNS = 5
_BACKOFF = Backoff(0.5, 5.0, at_once=1)

log = get_logger(__name__)


class EmbeddedBroker:
    """An async context manager that runs an MQTT 5 broker without login on `host`:`port` (0: any free port).

    StartError on entering if the port is in use or the broker does not start.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._host = host
        self._port = port
        self._broker: Broker | None = None
        self._port_lock: socket.socket | None = None

    @property
    def url(self) -> str:
        """The broker's URL for clients."""
        return f"mqtt://{self._host}:{self._port}"

    @property
    def running(self) -> bool:
        """Whether the broker's process runs."""
        return self._broker is not None and self._broker.is_running

    async def keep_running(self) -> None:
        """Restart the broker's process on the same port each time that it ends, until cancelled.

        Its clients reconnect. StartError once it has ended several times in a row, each time within seconds.
        """
        loop = asyncio.get_running_loop()
        brief_runs, started = 0, loop.time()
        while True:
            if self.running:
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            brief_runs = brief_runs + 1 if loop.time() - started < _BRIEF_SECONDS else 0
            if brief_runs == _MOST_BRIEF_RUNS:
                often = f"{brief_runs} times in a row within {_BRIEF_SECONDS:g} s of its start"
                raise StartError(f"the embedded broker on {self._host}:{self._port} ended {often}")
            log.error("broker.ended", address=f"{self._host}:{self._port}", brief_runs=brief_runs)
            await asyncio.sleep(_BACKOFF.pause(brief_runs))
            try:
                await self._start_in_thread()
            except StartError as error:
                log.warning("broker.start-failed", reason=str(error))
            else:
                log.warning("broker.restarted", address=f"{self._host}:{self._port}")
            # A start that fails counts as a brief run, however long it took.
            started = loop.time()

    async def __aenter__(self) -> Self:
        """Start the broker and wait until it listens."""
        self._port_lock, self._port = _locked_port(self._host, self._port)
        try:
            await self._start_in_thread()
        except BaseException:
            self._port_lock.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the broker."""
        if self._broker is not None:
            await asyncio.to_thread(self._broker.stop)
        if self._port_lock is not None:
            self._port_lock.close()

    async def _start_in_thread(self) -> None:
        """Start the broker; when cancelled, only once it is started, so that it can be stopped."""
        starting = asyncio.create_task(asyncio.to_thread(self._start), name="broker.start")
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])
            raise

    def _start(self) -> None:
        if self._broker is not None:
            self._broker.stop()
        # Ctrl-C in a terminal reaches the whole process group, but the services need the broker for a clean stop. So it
        # inherits a signal mask that blocks SIGINT. SIGTERM ends it, and so does the end of this process.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with tempfile.TemporaryDirectory(prefix="ingress-broker-") as folder:
                configuration = Path(folder) / "rumqttd.toml"
                configuration.write_text(
                    _CONFIGURATION.format(address=f"{self._host}:{self._port}", maximum=MAXIMUM_PACKET)
                )
                self._broker = Broker(config_path=str(configuration))
                self._broker.start()
        except (OSError, RuntimeError, ValueError) as error:
            raise StartError(f"the embedded broker cannot start on {self._host}:{self._port}: {error}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _locked_port(host: str, port: int) -> tuple[socket.socket, int]:
    """A socket that reserves a free port until it is closed, and the port: `port`, or any free one for 0.

    rumqttd only logs that it cannot listen, and it opens its socket some time after our check. Two runners that check
    at the same moment must not share one broker. So each first binds the unused UDP port of the same number, which only
    one of them can. StartError if no port is free.
    """
    for _ in range(1 if port else _FREE_PORT_TRIES):
        lock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            lock.bind((host, port))
            number = int(lock.getsockname()[1])
            with socket.socket() as tester:
                tester.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tester.bind((host, number))
        except OSError as error:
            lock.close()
            reason = error.strerror or str(error)
        else:
            return lock, number
    raise StartError(f"cannot listen on {host}:{port} for MQTT: {reason}")
