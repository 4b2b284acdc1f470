"""The link on paho-mqtt, which runs on the asyncio loop through its callbacks for external loops."""

import asyncio
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingress_common.bus.link import (
    BLAMING,
    GOODBYE_SECONDS,
    KEEP_ALIVE_SECONDS,
    MAXIMUM_PACKET,
    NO_MQTT_5,
    PERMANENT,
    RECEIVE_MAXIMUM,
    UNSUPPORTED_VERSION,
    ConnectOptions,
    Granted,
    LinkError,
    LinkHandler,
    Opened,
    ended_before_response,
    failed_to_connect,
    no_response,
)
from ingress_common.bus.port import NO_PROPERTIES
from ingress_common.logs import get_logger
from ingress_common.tls import TlsFileError

log = get_logger(__name__)

_READS_PER_TURN = 50
_SEND_RETAINED_IF_NEW = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB


class PahoLink:
    """One MQTT 5 connection with its own paho client, so that no state of an earlier connection reaches a later one.

    paho's connect blocks, so it runs in a thread; everything else runs on the event loop.
    """

    def __init__(self, options: ConnectOptions, handler: LinkHandler) -> None:
        self._options = options
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._opened = False
        self._timer: asyncio.TimerHandle | None = None
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=paho.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        # No limit here, the session has one: paho's own queue would let later messages overtake queued ones.
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
        if (will := options.will) is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        if (url := options.url).username is not None:
            client.username_pw_set(url.username, url.password)

    async def open(self, timeout: float, *, clean_start: bool = False) -> None:  # noqa: ASYNC109 - the thread needs it too
        """Connect and wait for CONNACK. LinkError if that fails or takes longer than `timeout` seconds."""
        connecting = self._loop.run_in_executor(None, self._connect, timeout, clean_start)
        established = False
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(connecting)
                self._attach()
                await self._accepted
            established = True
        except TimeoutError:
            raise no_response(timeout, connected=self._socket is not None) from None
        except UnicodeError as error:
            raise LinkError(f"{self._options.url.host!r} is not a host name: {error}", permanent=True) from None
        except (OSError, TlsFileError) as error:
            raise failed_to_connect(error, self._options.url) from None
        finally:
            if not established:
                if connecting.done():
                    self.abort()
                else:
                    connecting.add_done_callback(self._abandon)

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Mapping[str, str] | None
    ) -> int:
        """Send a message."""
        extra: Properties | None = None
        if properties:
            extra = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            extra.UserProperty = list(properties.items())
        while True:
            info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=extra)
            # paho refuses an identifier that is still in use after 65,535 others; retry with the next one.
            if info.rc != paho.MQTT_ERR_QUEUE_SIZE:
                return info.mid

    def subscribe(self, filters: list[str], *, no_local: bool) -> int:
        """Subscribe with QoS 1; retained messages arrive for filters that are new to the session."""
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

    def pause_reading(self) -> None:
        """Do nothing: paho would declare the broker dead if it did not read the ping responses."""

    def resume_reading(self) -> None:
        """Do nothing: reading never stops."""

    async def close(self) -> None:
        """Send queued packets and a DISCONNECT, then release the socket."""
        self._opened = False
        self._client.disconnect()
        await asyncio.wait([self._ended], timeout=GOODBYE_SECONDS)
        self.abort()

    def abort(self) -> None:
        """Close the socket without a DISCONNECT."""
        self._opened = False
        self._release()
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    # In the thread

    def _connect(self, timeout: float, clean_start: bool) -> None:  # noqa: FBT001 - called by the executor
        client, options = self._client, self._options
        client.connect_timeout = timeout
        if options.url.tls:
            client.tls_set_context(options.url.tls_files.client_context())
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = options.session_expiry
        properties.ReceiveMaximum = options.receive_maximum
        client.connect(
            options.url.host,
            options.url.port,
            keepalive=KEEP_ALIVE_SECONDS,
            clean_start=clean_start or options.session_expiry == 0,
            properties=properties,
        )

    # On the loop

    def _attach(self) -> None:
        """Register the connected socket with the event loop; paho's CONNECT is still to be written."""
        sock = self._client.socket()
        if not isinstance(sock, socket.socket):
            raise OSError("the connection was closed at once")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._poll.register(sock, select.POLLIN)
        self._loop.add_reader(sock, self._read)
        self._loop.add_writer(sock, self._write)
        self._timer = self._loop.call_later(1, self._every_second)

    def _read(self) -> None:
        """Read packets while there are any; `loop_read` reads one."""
        for _ in range(_READS_PER_TURN):
            self._guard(self._client.loop_read)
            if self._socket is None or not self._more_to_read(self._socket):
                return
        # TLS may hold decrypted bytes that the selector cannot see.
        self._loop.call_soon(self._read)

    def _more_to_read(self, sock: socket.socket) -> bool:
        return (isinstance(sock, ssl.SSLSocket) and sock.pending() > 0) or bool(self._poll.poll(0))

    def _write(self) -> None:
        self._guard(self._client.loop_write)

    def _guard(self, step: Callable[[], object]) -> None:
        """Run `step`; an error in it ends the connection instead of the event loop."""
        try:
            step()
        except Exception as error:
            log.exception("bus.protocol-error")
            opened = self._opened
            self.abort()
            self._opened = opened
            self._end(f"protocol error: {error}", blamed=True)

    def _every_second(self) -> None:
        """Let paho ping and end a connection without a response."""
        if self._socket is not None:
            self._timer = self._loop.call_later(1, self._every_second)
            self._guard(self._client.loop_misc)

    def _release(self) -> None:
        """Remove the socket from the event loop."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket = None

    def _abandon(self, connecting: asyncio.Future[None]) -> None:
        """Close a connection that was made after its timeout."""
        if not connecting.cancelled() and connecting.exception() is None:
            self.abort()

    def _end(self, reason: str, *, blamed: bool) -> None:
        self._release()
        if not self._ended.done():
            self._ended.set_result(None)
        if not self._accepted.done():
            self._accepted.set_exception(ended_before_response(reason, self._options.url))
        if self._opened:
            self._opened = False
            # After the responses that came before the end (`_on_publish`): a refused message must not be resent.
            self._loop.call_soon(partial(self._handler.lost, reason, blamed=blamed))

    # paho's callbacks

    def _on_connect(
        self, _client: Any, _data: Any, flags: paho.ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if self._accepted.done():
            return
        if code.is_failure:
            reason = NO_MQTT_5 if code.value == UNSUPPORTED_VERSION else str(code)
            self._accepted.set_exception(LinkError(reason, permanent=code.value in PERMANENT))
            return
        granted = Granted(
            retained=bool(getattr(properties, "RetainAvailable", 1)),
            wildcards=bool(getattr(properties, "WildcardSubscriptionAvailable", 1)),
            qos_1=getattr(properties, "MaximumQoS", 2) >= 1,
            session_expiry=getattr(properties, "SessionExpiryInterval", None),
        )
        try:
            granted.check(self._options.session_expiry)
        except LinkError as error:
            self._accepted.set_exception(error)
            return
        window: int = getattr(properties, "ReceiveMaximum", RECEIVE_MAXIMUM)
        maximum = min(getattr(properties, "MaximumPacketSize", MAXIMUM_PACKET), MAXIMUM_PACKET)
        self._opened = True
        self._accepted.set_result(None)
        self._handler.opened(Opened(flags.session_present, window, maximum))

    def _on_disconnect(
        self, _client: Any, _data: Any, flags: paho.DisconnectFlags, code: ReasonCode, _properties: Any
    ) -> None:
        who = "the broker disconnected" if flags.is_disconnect_packet_from_server else "connection lost"
        self._end(f"{who}: {code}", blamed=code.value in BLAMING)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        pairs = getattr(message.properties, "UserProperty", None)
        self._handler.arrived(
            message.topic,
            bytes(message.payload),
            message.qos,
            retain=message.retain,
            token=message.mid,
            properties=dict(pairs) if pairs else NO_PROPERTIES,
        )

    def _on_publish(self, _client: Any, _data: Any, mid: int, code: ReasonCode, _properties: Any) -> None:
        # Later, because paho is still handling this message and the session may publish the next one at once.
        error, blamed = (str(code), code.value in BLAMING) if code.is_failure else (None, False)
        self._loop.call_soon(partial(self._handler.published, mid, error, blamed=blamed))

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        self._handler.confirmed(mid, [str(code) if code.is_failure else None for code in codes])

    def _on_unsubscribe(self, _client: Any, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        self._handler.confirmed(mid, [None for _ in codes])

    def _on_socket_close(self, _client: Any, _data: Any, sock: Any) -> None:
        if sock is self._socket:
            self._release()

    def _on_register_write(self, _client: Any, _data: Any, sock: Any) -> None:
        # While the thread connects, there is nothing to register; `_attach` does it.
        if self._socket is not None and sock is self._socket:
            self._loop.add_writer(sock, self._write)

    def _on_unregister_write(self, _client: Any, _data: Any, sock: Any) -> None:
        if self._socket is not None and sock is self._socket:
            self._loop.remove_writer(sock)
