"""The link on the `mqtt5` codec: an asyncio protocol that decodes and encodes packets."""

import asyncio
import ssl
from collections.abc import Mapping
from itertools import count
from typing import Any, cast

import mqtt5

from ingress_common.bus.link import (
    BLAMING,
    GOODBYE_SECONDS,
    KEEP_ALIVE_SECONDS,
    MAXIMUM_PACKET,
    NO_MQTT_5,
    PERMANENT,
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
from ingress_common.tls import TlsFileError

_AT_LEAST_ONCE = mqtt5.QoS.AT_LEAST_ONCE
_SUCCESS = mqtt5.PubAckReasonCode.SUCCESS
_PING = mqtt5.PingReqPacket().write()
_FAILURE = 0x80
_CONNACK = 0x20
_PUBACK = 0x40
_TOO_LARGE = 0x95
# Packet identifiers have two bytes; some stay free for subscribing while the window is full.
_IDENTIFIERS = 65_535
_LARGEST_WINDOW = 65_000
# The connection is dead after this many half keep-alive intervals without data.
_SILENCES = 3


class Mqtt5Link(asyncio.Protocol):
    """One MQTT 5 connection. All packets sent in one turn of the event loop leave in one write."""

    def __init__(self, options: ConnectOptions, handler: LinkHandler) -> None:
        self._options = options
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._opened = False
        self._partial = bytearray()
        self._outgoing: list[bytes] = []
        self._identifiers: set[int] = set()
        self._last_identifier = 0
        # QoS 0 has no identifier and no PUBACK: it counts as published once it is written.
        self._qos_0_tokens = count(-1, -1)
        self._leaving: list[int] = []
        self._keep_alive = float(KEEP_ALIVE_SECONDS)
        self._timer: asyncio.TimerHandle | None = None
        self._silences = 0
        self._reading = True
        self._clean_start = False

    # The port

    async def open(self, timeout: float, *, clean_start: bool = False) -> None:  # noqa: ASYNC109 - the port's
        """Connect and wait for CONNACK. LinkError if that fails or takes longer than `timeout` seconds."""
        self._clean_start = clean_start
        url = self._options.url
        established = False
        try:
            async with asyncio.timeout(timeout):
                context = await asyncio.to_thread(url.tls_files.client_context) if url.tls else None
                await self._loop.create_connection(lambda: self, url.host, url.port, ssl=context)
                await self._accepted
            established = True
        except TimeoutError:
            raise no_response(timeout, connected=self._transport is not None) from None
        except UnicodeError as error:
            raise LinkError(f"{url.host!r} is not a host name: {error}", permanent=True) from None
        except (OSError, TlsFileError) as error:
            raise failed_to_connect(error, url) from None
        finally:
            if not established:
                # Nobody waits for it any more: an error in it would be logged as never retrieved.
                self._accepted.cancel()
                self.abort()

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Mapping[str, str] | None
    ) -> int:
        """Send a message."""
        pairs = list(properties.items()) if properties else None
        if qos:
            token = self._new_identifier()
            packet = mqtt5.PublishPacket(
                topic, payload, qos=_AT_LEAST_ONCE, retain=retain, packet_id=token, user_properties=pairs
            )
        else:
            token = next(self._qos_0_tokens)
            packet = mqtt5.PublishPacket(topic, payload, retain=retain, user_properties=pairs)
            self._leaving.append(token)
        self._send(packet.write())
        return token

    def subscribe(self, filters: list[str], *, no_local: bool) -> int:
        """Subscribe with QoS 1; retained messages arrive for filters that are new to the session."""
        wanted = [
            mqtt5.TopicFilter(
                topic_filter,
                max_qos=_AT_LEAST_ONCE,
                no_local=no_local,
                retain_as_published=False,
                retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
            )
            for topic_filter in filters
        ]
        token = self._new_identifier()
        self._send(mqtt5.SubscribePacket(token, wanted).write())
        return token

    def unsubscribe(self, filters: list[str]) -> int:
        """Unsubscribe."""
        token = self._new_identifier()
        self._send(mqtt5.UnsubscribePacket(token, filters).write())
        return token

    def acknowledge(self, token: int) -> None:
        """Send a PUBACK."""
        self._send(mqtt5.PubAckPacket(token).write())

    def pause_reading(self) -> None:
        """Stop reading, so that messages wait at the broker."""
        if self._transport is not None:
            self._transport.pause_reading()
            self._reading = False

    def resume_reading(self) -> None:
        """Resume reading."""
        if self._transport is not None:
            self._transport.resume_reading()
            self._reading = True

    async def close(self) -> None:
        """Send queued packets and a DISCONNECT, then release the socket."""
        self._opened = False
        if self._transport is not None:
            self._disconnect(mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION)
            await asyncio.wait([self._closed], timeout=GOODBYE_SECONDS)
        self.abort()

    def abort(self) -> None:
        """Close the socket without a DISCONNECT."""
        self._opened = False
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    # asyncio's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send CONNECT."""
        self._transport = cast("asyncio.Transport", transport)
        url, will = self._options.url, self._options.will
        packet = mqtt5.ConnectPacket(
            self._options.client_id,
            username=url.username,
            password=None if url.password is None else url.password.encode(),
            clean_start=self._clean_start or self._options.session_expiry == 0,
            will=mqtt5.Will(will.topic, payload=will.payload, qos=_AT_LEAST_ONCE, retain=True) if will else None,
            keep_alive=KEEP_ALIVE_SECONDS,
            session_expiry_interval=self._options.session_expiry,
            receive_max=self._options.receive_maximum,
        )
        self._transport.write(packet.write())

    def data_received(self, data: bytes) -> None:
        """Handle all complete packets in `data`; keep an incomplete one for later."""
        if self._transport is None:
            return
        self._silences = 0
        if not self._partial:
            self._partial += data[self._read(memoryview(data)) :]
            return
        self._partial += data
        with memoryview(self._partial) as view:
            taken = self._read(view)
        del self._partial[:taken]

    def connection_lost(self, error: Exception | None) -> None:
        """The socket has closed, on either side."""
        self._closed.set_result(None)
        if isinstance(error, ssl.SSLError) and not self._accepted.done():
            self._accepted.set_exception(failed_to_connect(error, self._options.url))
        self._end(f"connection lost: {error or 'closed by the broker'}", blamed=False)

    # Reading

    def _read(self, view: memoryview) -> int:
        """Handle every complete packet; returns the number of bytes consumed."""
        taken, size = 0, len(view)
        while taken < size and self._transport is not None:
            try:
                packet, length = mqtt5.read(view[taken:])
            except IndexError:
                break
            except ValueError as error:
                if not self._opened and _is_older_connack(view[taken:]):
                    self._refuse(LinkError(NO_MQTT_5, permanent=True))
                    break
                length = self._refused_with_unknown_reason(view[taken:])
                if not length:
                    self._protocol_error(f"malformed packet: {error}")
                taken += length
            except BaseException as error:
                # The codec panics on some malformed packets; the exception of a panic has no public name.
                if type(error).__name__ != "PanicException":
                    raise
                self._protocol_error(f"malformed packet: {error}")
            else:
                taken += length
                self._handle(packet)
        return taken

    def _refused_with_unknown_reason(self, view: memoryview) -> int:
        """Handle a PUBACK whose reason code MQTT 5 does not define for it; returns its length, or 0 for another packet.

        Mosquitto sends one for a message above its `message_size_limit`: "packet too large", a code for DISCONNECT.
        """
        if view[0] != _PUBACK or not 3 <= view[1] < 0x80:
            return 0
        reason = f"reason code 0x{view[4]:02X}"
        if view[4] == _TOO_LARGE:
            reason = "Packet too large; raise the broker's limit (Mosquitto: message_size_limit)"
        self._complete(int.from_bytes(view[2:4]), reason, blamed=view[4] in BLAMING)
        return 2 + view[1]

    def _handle(self, packet: Any) -> None:
        if not self._opened:
            if self._accepted.done():
                return
            if isinstance(packet, mqtt5.ConnAckPacket):
                self._connected(packet)
            else:
                self._protocol_error(f"expected CONNACK, got {type(packet).__name__}")
            return
        match packet:
            case mqtt5.PublishPacket():
                token, pairs = packet.packet_id, packet.user_properties
                self._handler.arrived(
                    packet.topic,
                    packet.payload,
                    0 if token is None else 1,
                    retain=packet.retain,
                    token=token or 0,
                    properties=dict(pairs) if pairs else NO_PROPERTIES,
                )
            case mqtt5.PubAckPacket():
                code = packet.reason_code
                error = None if code is _SUCCESS else _failure(code, packet.reason_str)
                self._complete(packet.packet_id, error, blamed=error is not None and int(code) in BLAMING)
            case mqtt5.SubAckPacket() | mqtt5.UnsubAckPacket():
                self._identifiers.discard(packet.packet_id)
                errors = [_failure(code, packet.reason_str) for code in packet.reason_codes]
                self._handler.confirmed(packet.packet_id, errors)
            case mqtt5.PingRespPacket():
                pass
            case mqtt5.DisconnectPacket():
                reason = _name(packet.reason_code, packet.reason_str)
                self._end(f"the broker disconnected: {reason}", blamed=int(packet.reason_code) in BLAMING)
            case _:
                self._protocol_error(f"unexpected {type(packet).__name__}")

    def _connected(self, packet: mqtt5.ConnAckPacket) -> None:
        code = int(packet.reason_code)
        if code >= _FAILURE:
            reason = _name(packet.reason_code, packet.reason_str)
            if code == UNSUPPORTED_VERSION:
                reason = NO_MQTT_5
            self._refuse(LinkError(reason, permanent=code in PERMANENT))
            return
        granted = Granted(
            retained=packet.retain_available,
            wildcards=packet.wildcard_subscription_available,
            qos_1=int(packet.max_qos) >= 1,
            session_expiry=packet.session_expiry_interval,
        )
        try:
            granted.check(self._options.session_expiry)
        except LinkError as error:
            self._refuse(error)
            return
        if packet.server_keep_alive is not None:
            self._keep_alive = float(packet.server_keep_alive)
        self._opened = True
        self._accepted.set_result(None)
        self._start_timer()
        window = min(packet.receive_max, _LARGEST_WINDOW)
        maximum = min(packet.max_packet_size or MAXIMUM_PACKET, MAXIMUM_PACKET)
        self._handler.opened(Opened(packet.session_present, window, maximum))

    def _refuse(self, error: LinkError) -> None:
        """Fail `open` with `error` and end the connection."""
        if not self._accepted.done():
            self._accepted.set_exception(error)
        self._end(str(error), blamed=False)

    def _complete(self, identifier: int, error: str | None, *, blamed: bool) -> None:
        self._identifiers.discard(identifier)
        self._handler.published(identifier, error, blamed=blamed)

    # Writing

    def _new_identifier(self) -> int:
        identifier = self._last_identifier
        while True:
            identifier = identifier % _IDENTIFIERS + 1
            if identifier not in self._identifiers:
                break
        self._last_identifier = identifier
        self._identifiers.add(identifier)
        return identifier

    def _send(self, data: bytes) -> None:
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(data)

    def _flush(self) -> None:
        """Write all packets of this turn of the event loop."""
        outgoing, self._outgoing = self._outgoing, []
        leaving, self._leaving = self._leaving, []
        if self._transport is not None and outgoing:
            self._transport.write(b"".join(outgoing))
        for token in leaving:
            self._handler.published(token, None)

    def _disconnect(self, code: mqtt5.DisconnectReasonCode) -> None:
        self._send(mqtt5.DisconnectPacket(reason_code=code).write())
        self._flush()
        if self._transport is not None:
            self._transport.close()

    # Keep-alive and the end

    def _start_timer(self) -> None:
        if self._keep_alive:
            self._timer = self._loop.call_later(self._keep_alive / 2, self._every_half_keep_alive)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _every_half_keep_alive(self) -> None:
        """Ping, and end a connection without data for 1.5 keep-alive intervals."""
        if self._silences >= _SILENCES:
            self._end(f"received nothing for {1.5 * self._keep_alive:.0f} s", blamed=False)
            return
        # Paused reading does not count as silence.
        self._silences = self._silences + 1 if self._reading else 0
        self._send(_PING)
        self._start_timer()

    def _protocol_error(self, reason: str) -> None:
        """End the connection after an invalid packet and send the reason code."""
        self._disconnect(mqtt5.DisconnectReasonCode.PROTOCOL_ERROR)
        self._end(f"protocol error: {reason}", blamed=False)

    def _end(self, reason: str, *, blamed: bool) -> None:
        self._stop_timer()
        transport, self._transport = self._transport, None
        if transport is not None and not transport.is_closing():
            transport.abort()
        if not self._accepted.done():
            self._accepted.set_exception(ended_before_response(reason, self._options.url))
        if self._opened:
            self._opened = False
            self._handler.lost(reason, blamed=blamed)


def _is_older_connack(view: memoryview) -> bool:
    """Whether a packet is a CONNACK of MQTT 3.1.1: two bytes and no properties."""
    return len(view) >= 4 and view[0] == _CONNACK and view[1] == 2


def _failure(code: Any, text: str | None) -> str | None:
    """The reason of a refusal; None if `code` is a success."""
    return _name(code, text) if int(code) >= _FAILURE else None


def _name(code: Any, text: str | None) -> str:
    """The name of a reason code, with the broker's reason string."""
    name = code.name.replace("_", " ").capitalize()
    return f"{name} ({text})" if text else name
