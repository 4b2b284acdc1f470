"""The embedded MQTT broker of the all-in-one runner: rumqttd, in a child process of its own.

It is not durable (`design.md`, section 7): messages in flight when a client reconnects may be lost, and nothing
survives its end. Deployments take Mosquitto.
"""

import asyncio
import signal
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from iotcore import Broker

from ingress_common.bus.mqtt import MAXIMUM_PACKET
from ingress_common.errors import StartError

# rumqttd ends a connection that sends more than max_payload_size bytes, so it takes all that the bus may send.
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
    """An MQTT 5 broker on `host`:`port` (0: any free port) while it is entered, without login.

    StartError on entering names a port that is in use, or says that the broker did not come up.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._host = host
        self._port = port
        self._broker: Broker | None = None
        self._claim: socket.socket | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"mqtt://{self._host}:{self._port}"

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._broker is not None and self._broker.is_running

    async def __aenter__(self) -> Self:
        """Start it and wait until it listens."""
        self._claim, self._port = _claimed_port(self._host, self._port)
        try:
            await asyncio.to_thread(self._start)
        except BaseException:
            self._claim.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        if self._broker is not None:
            await asyncio.to_thread(self._broker.stop)
        if self._claim is not None:
            self._claim.close()

    def _start(self) -> None:
        # A Ctrl-C in the terminal reaches the whole process group. The services need the broker to say goodbye, so it
        # inherits a mask without SIGINT; it is ended by SIGTERM, and ends itself when this process is gone.
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


def _claimed_port(host: str, port: int) -> tuple[socket.socket, int]:
    """`port` if it can be listened on, any free one for 0, and what claims it until it is closed; StartError otherwise.

    rumqttd would only log that it cannot listen, and opens its socket a moment after we have looked. So that two of us
    who look at the same moment do not end up on one broker, the UDP port of the same number, which nobody uses, is
    taken first: only one can have it.
    """
    for _ in range(1 if port else _FREE_PORT_TRIES):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((host, port))
            number = int(claim.getsockname()[1])
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, number))
        except OSError as error:
            claim.close()
            reason = error.strerror or str(error)
        else:
            return claim, number
    raise StartError(f"cannot listen on {host}:{port} for MQTT: {reason}")
