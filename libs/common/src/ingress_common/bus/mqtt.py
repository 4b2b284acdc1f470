"""The bus over MQTT 5."""

from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import pbkdf2_hmac
from typing import Self

from ingress_common.bus.client import DEFAULT_CLIENT, MqttClient
from ingress_common.bus.link import ConnectOptions, Link, LinkHandler
from ingress_common.bus.port import LastWill
from ingress_common.bus.session import MAXIMUM_PAYLOAD, BusSession
from ingress_common.bus.url import MqttUrl
from ingress_common.metrics import BusMetrics

_ROUNDS = 50_000
"""Rounds of the digest in a client id. Broker logs show the id, so guessing a password from it must be slow."""


class MqttBus(BusSession):
    """A client of an MQTT 5 broker. Create it inside a running event loop; use it as an async context manager.

    Delivery is at least once: after a broken connection, unconfirmed messages are resent in order, with new packet
    identifiers.

    Args:
        client_id: the name in `secret_client_id`, which the broker gets as client id.
        client: the MQTT library.
        session_expiry: seconds that the broker keeps session and messages while we are disconnected, also for a new
            process with the same `client_id`.
        inbound_limit: maximum number of unacknowledged QoS 1 messages that the broker sends.
        outbound_limit: number of unconfirmed messages above which `publish` waits.
        payload_limit: maximum payload in bytes, to bound the memory of queued messages. A longer payload arrives cut to
            one byte more than this.
        before: awaited before the first connection, for example to prevent a session takeover.

    Raises:
        ValueError: `url` is malformed.
    """

    def __init__(
        self,
        url: MqttUrl | str,
        *,
        client_id: str,
        client: MqttClient = DEFAULT_CLIENT,
        will: LastWill | None = None,
        session_expiry: int = 0,
        inbound_limit: int = 500,
        outbound_limit: int = 1000,
        metrics: BusMetrics | None = None,
        payload_limit: int = MAXIMUM_PAYLOAD,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._before = before
        address = MqttUrl.parse(url) if isinstance(url, str) else url
        options = ConnectOptions(address, secret_client_id(client_id, address), will, session_expiry, inbound_limit)
        super().__init__(
            str(address),
            partial(_link_class(client), options),
            inbound_limit=inbound_limit,
            outbound_limit=outbound_limit,
            metrics=metrics,
            payload_limit=payload_limit,
        )

    async def __aenter__(self) -> Self:
        """Connect. BusError if the broker refuses or cannot be reached; also raises what `before` raises."""
        if self._before is not None:
            await self._before()
        return await super().__aenter__()


def secret_client_id(name: str, url: MqttUrl) -> str:
    """`name` with a digest that only holders of the user's password can compute.

    Anyone who knows a client id can take over its session and messages, whatever the rights of their own user. The id
    is constant for one name and password. Without a password it is `name`, because nothing is protected. An empty name
    stays empty: the broker then assigns an id to each connection.
    """
    if url.password is None or not name:
        return name
    salt = f"{url.username}/{name}".encode()
    return f"{name}-{pbkdf2_hmac('sha256', url.password.encode(), salt, _ROUNDS, dklen=12).hex()}"


def _link_class(client: MqttClient) -> Callable[[ConnectOptions, LinkHandler], Link]:
    """The link class of `client`, imported here so that a process loads only the library that it uses."""
    if client == "paho":
        from ingress_common.bus.paho_link import PahoLink

        return PahoLink
    from ingress_common.bus.mqtt5_link import Mqtt5Link

    return Mqtt5Link
