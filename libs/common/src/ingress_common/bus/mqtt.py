"""The bus over MQTT 5: paho-mqtt on the asyncio loop, through its callbacks for external loops."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingress_common.bus.link import LinkError, LinkHandler, Opened
from ingress_common.bus.port import LastWill
from ingress_common.bus.session import MAXIMUM_PAYLOAD, Session
from ingress_common.bus.url import MqttUrl
from ingress_common.logs import get_logger
from ingress_common.metrics import BusMetrics

log = get_logger(__name__)

# Seconds. A process that is frozen or cut off is declared dead after half as much again.
_KEEPALIVE = 10
_GOODBYE_SECONDS = 2.0
_RECEIVE_MAXIMUM = 65535
_READS_PER_TURN = 50

# Bytes. Some brokers have a limit and do not announce it: they end the connection at a packet above it, and would again
# each time it is sent. The embedded one is configured to take this much, Mosquitto takes any.
MAXIMUM_PACKET = 4 * 1024 * 1024
_SEND_RETAINED_IF_NEW = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB

# CONNACK reason codes that another attempt does not mend (MQTT 5, table 3-1): protocol version, client identifier,
# bad user name or password, not authorized, banned, bad authentication method.
_PERMANENT = {0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C}

# DISCONNECT reason codes that a single message can bring about (table 3-10): malformed packet, protocol error, topic
# name invalid, packet too large, payload format invalid, retain not supported, QoS not supported. paho itself says
# protocol error when it cannot read a PUBACK, as Mosquitto's for a message above its message_size_limit.
_BLAMING = {0x81, 0x82, 0x90, 0x95, 0x99, 0x9A, 0x9B}


class PahoLink:
    """One MQTT 5 connection. Each has its own paho client, so that nothing of an earlier one can reach a later one.

    paho resolves names and connects blockingly, so that is done in a thread; everything else happens on the loop.
    """

    def __init__(
        self,
        url: MqttUrl,
        handler: LinkHandler,
        client_id: str,
        will: LastWill | None,
        expiry: int,
        receive_maximum: int,
    ) -> None:
        self._url = url
        self._handler = handler
        self._expiry = expiry
        self._receive_maximum = receive_maximum
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._answer: asyncio.Future[None] = self._loop.create_future()
        self._socket: socket.socket | None = None
        self._opened = False
        self._timer: asyncio.TimerHandle | None = None
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        # The session bounds what is in flight; paho's own queue would put later messages before those it holds back.
        client.max_inflight_messages = 0
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        if url.username is not None:
            client.username_pw_set(url.username, url.password)

    async def open(self, timeout: float) -> None:  # noqa: ASYNC109 - the thread needs it too
        """Connect and wait for the broker's answer; LinkError if either fails or takes more than `timeout` seconds."""
        connecting = self._loop.run_in_executor(None, self._connect, timeout)
        established = False
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(connecting)
                self._attach()
                await self._answer
            established = True
        except TimeoutError:
            raise LinkError(f"no answer within {timeout:.0f} s") from None
        except UnicodeError as error:
            raise LinkError(f"{self._url.host!r} is no host name: {error}", permanent=True) from None
        except OSError as error:
            raise LinkError(_plain(error)) from None
        finally:
            if not established:
                if connecting.done():
                    self.abort()
                else:
                    connecting.add_done_callback(self._abandon)

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """Send a message."""
        while True:
            info = self._client.publish(topic, payload, qos=qos, retain=retain)
            # paho refuses an identifier that is still in use after 65,535 others; the next one will do.
            if info.rc != paho.MQTT_ERR_QUEUE_SIZE:
                return info.mid

    def subscribe(self, filters: list[str], *, no_local: bool) -> int:
        """Subscribe with QoS 1; retained messages come for what is new to the session."""
        options = SubscribeOptions(qos=1, noLocal=no_local, retainHandling=_SEND_RETAINED_IF_NEW)
        _, mid = self._client.subscribe([(topic_filter, options) for topic_filter in filters])
        return mid or 0

    def unsubscribe(self, filters: list[str]) -> int:
        """Unsubscribe."""
        _, mid = self._client.unsubscribe(filters)
        return mid or 0

    def acknowledge(self, token: int) -> None:
        """Send a PUBACK."""
        self._client.ack(token, 1)

    async def close(self) -> None:
        """Send what is queued and a DISCONNECT, then release the socket."""
        self._opened = False
        self._client.disconnect()
        await asyncio.wait([self._ended], timeout=_GOODBYE_SECONDS)
        self.abort()

    def abort(self) -> None:
        """Close the socket without a goodbye."""
        self._opened = False
        self._release()
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    # In the thread

    def _connect(self, timeout: float) -> None:
        client = self._client
        client.connect_timeout = timeout
        if self._url.tls:
            client.tls_set_context(ssl.create_default_context())
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._expiry
        properties.ReceiveMaximum = self._receive_maximum
        client.connect(
            self._url.host, self._url.port, keepalive=_KEEPALIVE, clean_start=self._expiry == 0, properties=properties
        )

    # On the loop

    def _attach(self) -> None:
        """Take over the connected socket, with the CONNECT that waits to be written."""
        sock = self._client.socket()
        if not isinstance(sock, socket.socket):
            raise OSError("the connection was closed at once")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._loop.add_reader(sock, self._read)
        self._loop.add_writer(sock, self._write)
        self._timer = self._loop.call_later(1, self._every_second)

    def _read(self) -> None:
        # TLS may hold decrypted bytes that the selector cannot see.
        for _ in range(_READS_PER_TURN):
            self._guard(self._client.loop_read)
            if not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                return
        self._loop.call_soon(self._read)

    def _write(self) -> None:
        self._guard(self._client.loop_write)

    def _guard(self, step: Callable[[], object]) -> None:
        """A packet that paho cannot digest ends the connection, not the loop."""
        try:
            step()
        except Exception as error:
            log.exception("bus.protocol-error")
            opened = self._opened
            self.abort()
            self._opened = opened
            self._end(f"protocol error: {error}", blamed=True)

    def _every_second(self) -> None:
        """Keep-alive: paho pings, and ends a connection that does not answer."""
        if self._socket is not None:
            self._timer = self._loop.call_later(1, self._every_second)
            self._guard(self._client.loop_misc)

    def _release(self) -> None:
        """Take the socket off the loop."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket = None

    def _abandon(self, connecting: asyncio.Future[None]) -> None:
        """A connect that outlived its time came through after all."""
        if not connecting.cancelled() and connecting.exception() is None:
            self.abort()

    def _end(self, reason: str, *, blamed: bool) -> None:
        self._release()
        if not self._ended.done():
            self._ended.set_result(None)
        if not self._answer.done():
            self._answer.set_exception(LinkError(reason))
        if self._opened:
            self._opened = False
            self._handler.lost(reason, blamed=blamed)

    # paho's callbacks

    def _on_connect(
        self, _client: Any, _data: Any, flags: paho.ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if self._answer.done():
            return
        if code.is_failure:
            self._answer.set_exception(LinkError(str(code), permanent=code.value in _PERMANENT))
            return
        window: int = getattr(properties, "ReceiveMaximum", _RECEIVE_MAXIMUM)
        maximum = min(getattr(properties, "MaximumPacketSize", MAXIMUM_PACKET), MAXIMUM_PACKET)
        self._opened = True
        self._answer.set_result(None)
        self._handler.opened(Opened(flags.session_present, window, maximum))

    def _on_disconnect(
        self, _client: Any, _data: Any, flags: paho.DisconnectFlags, code: ReasonCode, _properties: Any
    ) -> None:
        who = "the broker said" if flags.is_disconnect_packet_from_server else "connection lost"
        self._end(f"{who}: {code}", blamed=code.value in _BLAMING)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._handler.arrived(
            message.topic, bytes(message.payload), message.qos, retain=message.retain, token=message.mid
        )

    def _on_publish(self, _client: Any, _data: Any, mid: int, code: ReasonCode, _properties: Any) -> None:
        # paho still holds this message; the session may want to publish the next one.
        self._loop.call_soon(self._handler.published, mid, str(code) if code.is_failure else None)

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        self._handler.confirmed(mid, [str(code) if code.is_failure else None for code in codes])

    def _on_unsubscribe(self, _client: Any, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        self._handler.confirmed(mid, [None for _ in codes])

    def _on_socket_close(self, _client: Any, _data: Any, sock: Any) -> None:
        if sock is self._socket:
            self._release()

    def _on_register_write(self, _client: Any, _data: Any, sock: Any) -> None:
        # While the thread connects there is nothing to register yet; `_attach` does it.
        if self._socket is not None and sock is self._socket:
            self._loop.add_writer(sock, self._write)

    def _on_unregister_write(self, _client: Any, _data: Any, sock: Any) -> None:
        if self._socket is not None and sock is self._socket:
            self._loop.remove_writer(sock)


class MqttBus(Session):
    """A client of an MQTT 5 broker; create it inside a running event loop.

    `session_expiry` in seconds: above 0 the broker keeps session and messages while we are away, also for a new process
    with the same `client_id`. `inbound_limit`: how many QoS 1 messages the broker sends unacknowledged.
    `outbound_limit`: how many messages may wait for the broker's confirmation before `publish` waits. ValueError for a
    URL that is none.

    A service whose messages are small sets `payload_limit` (bytes), so that those which wait are bounded in bytes too:
    of what is longer, one byte more than that arrives.

    `before` is awaited before the first connection is made, so that it may keep us from taking a session over.

    What was not confirmed when a connection broke is sent again, in order, with new packet identifiers: delivery is at
    least once.
    """

    def __init__(
        self,
        url: MqttUrl | str,
        *,
        client_id: str,
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

        def make_link(handler: LinkHandler) -> PahoLink:
            return PahoLink(address, handler, client_id, will, session_expiry, inbound_limit)

        super().__init__(
            str(address),
            make_link,
            inbound_limit=inbound_limit,
            outbound_limit=outbound_limit,
            metrics=metrics,
            payload_limit=payload_limit,
        )

    async def __aenter__(self) -> Self:
        """Connect; BusError if the broker refuses or cannot be reached, and whatever `before` raises."""
        if self._before is not None:
            await self._before()
        return await super().__aenter__()


def _plain(error: OSError) -> str:
    """The reason without the error number."""
    return error.strerror or str(error) or type(error).__name__
