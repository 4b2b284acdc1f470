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

from ingress_common.bus.link import MAXIMUM_PACKET
from ingress_common.errors import StartError

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

    async def __aenter__(self) -> Self:
        """Start the broker and wait until it listens."""
        self._port_lock, self._port = _locked_port(self._host, self._port)
        try:
            await asyncio.to_thread(self._start)
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

    def _start(self) -> None:
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
