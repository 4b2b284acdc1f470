"""The port of one broker connection, implemented on the mqtt5 codec and on paho-mqtt."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ingress_common.bus.port import LastWill
from ingress_common.bus.url import MqttUrl
from ingress_common.logs import get_logger
from ingress_common.tls import NOT_TRUSTED, TlsFileError, reason_of

KEEP_ALIVE_SECONDS = 6
"""MQTT keep-alive: the broker declares a suspended or disconnected process dead after 1.5 times this."""

GOODBYE_SECONDS = 2.0
"""Maximum time for a clean disconnect."""

RECEIVE_MAXIMUM = 65_535
"""Maximum number of unconfirmed messages on a broker that announces no limit."""

# Some brokers have a limit that they do not announce. They end the connection at each larger packet, also when it is
# resent. The embedded broker is configured with this limit; Mosquitto has none.
MAXIMUM_PACKET = 4 * 1024 * 1024
"""Maximum size in bytes of a packet that we send, whatever the broker announces."""

# MQTT 5, table 3-1: protocol version, client identifier, bad user name or password, not authorized, banned, bad
# authentication method.
PERMANENT = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""CONNACK reason codes for which a retry is useless."""

# MQTT 5, table 3-10: malformed packet, protocol error, topic name invalid, packet too large, payload format invalid,
# retain not supported, QoS not supported.
BLAMING = frozenset({0x81, 0x82, 0x90, 0x95, 0x99, 0x9A, 0x9B})
"""DISCONNECT and PUBACK reason codes that a single message can cause."""


NO_MQTT_5 = "it does not speak MQTT 5, only MQTT 3.1.1 or older"
"""The error text for a broker without MQTT 5."""

UNSUPPORTED_VERSION = 0x84
"""The CONNACK reason code "Unsupported Protocol Version"."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """The broker's address, and the client's identity, session and limits."""

    url: MqttUrl
    client_id: str
    will: LastWill | None
    session_expiry: int
    """Seconds that the broker keeps the session after the connection ends; 0: no longer than the connection."""
    receive_maximum: int
    """Maximum number of unacknowledged QoS 1 messages that the broker may send."""


class LinkError(Exception):
    """A connection could not be opened. `permanent`: the broker refuses us, so a retry is useless."""

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent


def failed_to_connect(error: OSError | TlsFileError, url: MqttUrl) -> LinkError:
    """The LinkError for a failed connection to `url`. A TLS error is permanent, unless the server has only ended the
    connection, as one that is restarting does.
    """
    if isinstance(error, TlsFileError):
        return LinkError(str(error))
    reason = reason_of(error)
    if url.tls and isinstance(error, ConnectionResetError):
        reason = "the server ended the TLS handshake; it may not speak TLS on this port"
    if reason.startswith(NOT_TRUSTED):
        reason = f"{reason} (MQTT_CA_FILE)"
    refused = isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
    return LinkError(reason, permanent=url.tls and refused)


def ended_before_response(reason: str, url: MqttUrl) -> LinkError:
    """The LinkError for a broker that ended the connection instead of responding to CONNECT, with a likely cause."""
    if url.tls:
        may = "require a client certificate" if url.tls_files.cert_file is None else "not trust our certificate"
        return LinkError(f"{reason}; the broker may {may} (MQTT_CERT_FILE), or not speak MQTT 5")
    return LinkError(
        f"{reason}, before it responded; the broker may not speak MQTT 5, expect TLS (mqtts://), or accept only "
        "smaller packets (Mosquitto: max_packet_size)"
    )


def no_response(timeout: float, *, connected: bool) -> LinkError:
    """The LinkError for an open that took longer than `timeout` seconds. `connected`: the server accepted the
    connection.
    """
    reason = f"no response within {timeout:.0f} s"
    return LinkError(f"{reason}, although it accepted the connection; it may not speak MQTT 5" if connected else reason)


@dataclass(frozen=True, slots=True)
class Granted:
    """The capabilities that the broker's CONNACK announces; the defaults are those of MQTT 5."""

    retained: bool = True
    wildcards: bool = True
    qos_1: bool = True
    session_expiry: int | None = None
    """Seconds that the broker keeps a session; None: as many as requested."""

    def check(self, requested_expiry: int) -> None:
        """LinkError if a capability that the services need is absent. Logs a shorter session expiry than requested."""
        lacking = [
            name
            for name, there in (
                ("retained messages (Retain Available; in Mosquitto retain_available true)", self.retained),
                (
                    "wildcard subscriptions (Wildcard Subscription Available; in EMQX mqtt.wildcard_subscription)",
                    self.wildcards,
                ),
                ("QoS 1 (Maximum QoS; in Mosquitto max_qos 1 or 2)", self.qos_1),
                (
                    "sessions that outlive connections (Session Expiry Interval; in EMQX mqtt.session_expiry_interval)",
                    not requested_expiry or self._keeps(),
                ),
            )
            if not there
        ]
        if lacking:
            raise LinkError(f"it does not offer {', '.join(lacking)}", permanent=True)
        if self.session_expiry is not None and self.session_expiry < requested_expiry:
            log.warning("bus.session-capped", requested_seconds=requested_expiry, granted_seconds=self.session_expiry)

    def _keeps(self) -> bool:
        return self.session_expiry is None or self.session_expiry > 0


@dataclass(frozen=True, slots=True)
class Opened:
    """What the broker granted: whether it kept our session, and its limits on what we send."""

    session_kept: bool
    window: int
    """Maximum number of unconfirmed QoS 1 messages."""
    maximum_packet: int = MAXIMUM_PACKET
    """Maximum size of a packet in bytes."""


class LinkHandler(Protocol):
    """The callbacks of a link. All are called on the event loop, in the order of the wire."""

    def opened(self, opened: Opened) -> None:
        """The broker has accepted the connection. Called first, before `Link.open` returns."""
        ...

    def arrived(
        self, topic: str, payload: bytes, qos: int, *, retain: bool, token: int, properties: Mapping[str, str]
    ) -> None:
        """A message has arrived. Pass `token` to `Link.acknowledge`."""
        ...

    def published(self, token: int, error: str | None, *, blamed: bool = False) -> None:
        """The broker has the message (QoS 1) or it was sent (QoS 0). `error`: why the broker refused it, else None;
        `blamed`: the reason blames this message, not its sender.
        """
        ...

    def confirmed(self, token: int, errors: list[str | None]) -> None:
        """The broker has responded to a subscribe or unsubscribe, with an error or None for each filter."""
        ...

    def lost(self, reason: str, *, blamed: bool) -> None:
        """The connection has ended; no call follows. `blamed`: the reason blames a message that we sent."""
        ...


class Link(Protocol):
    """One connection, opened once. A token is valid only on its own link."""

    async def open(self, timeout: float, *, clean_start: bool = False) -> None:  # noqa: ASYNC109 - paho needs it too
        """Connect within `timeout` seconds; LinkError if that fails. `clean_start`: discard a kept session."""
        ...

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Mapping[str, str] | None
    ) -> int:
        """Send a message; returns the token of the `published` call."""
        ...

    def subscribe(self, filters: list[str], *, no_local: bool) -> int:
        """Subscribe with QoS 1; returns the token of the `confirmed` call."""
        ...

    def unsubscribe(self, filters: list[str]) -> int:
        """Unsubscribe; returns the token of the `confirmed` call."""
        ...

    def acknowledge(self, token: int) -> None:
        """Acknowledge a QoS 1 message."""
        ...

    def pause_reading(self) -> None:
        """Stop reading until `resume_reading`, so that messages wait at the broker. A link may be unable to stop."""
        ...

    def resume_reading(self) -> None:
        """Resume reading."""
        ...

    async def close(self) -> None:
        """Disconnect cleanly and release all resources; `lost` is not called."""
        ...

    def abort(self) -> None:
        """End the connection without a DISCONNECT; `lost` is not called."""
        ...
