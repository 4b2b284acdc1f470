"""The mqtt5 link against a broker that sends invalid packets, or nothing."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingress_common.bus.link import MAXIMUM_PACKET, NO_MQTT_5, ConnectOptions, LinkError, Opened
from ingress_common.bus.mqtt5_link import Mqtt5Link
from ingress_common.bus.port import LastWill
from ingress_common.bus.url import MqttUrl

DEADLINE = 20
QOS_1 = mqtt5.QoS.AT_LEAST_ONCE
CONNACK = mqtt5.ConnAckPacket().write()


class Handler:
    """Keeps what a link reports."""

    def __init__(self) -> None:
        self.granted: Opened | None = None
        self.messages: list[tuple[str, bytes, int, int]] = []
        self.responses: list[tuple[int, str | None]] = []
        self.blamed: list[int] = []
        self.confirmations: list[tuple[int, list[str | None]]] = []
        self.end: tuple[str, bool] | None = None

    def opened(self, opened: Opened) -> None:
        self.granted = opened

    def arrived(self, topic, payload, qos, *, retain, token, properties) -> None:
        self.messages.append((topic, payload, qos, token))

    def published(self, token: int, error: str | None, *, blamed: bool = False) -> None:
        self.responses.append((token, error))
        if blamed:
            self.blamed.append(token)

    def confirmed(self, token: int, errors: list[str | None]) -> None:
        self.confirmations.append((token, errors))

    def lost(self, reason: str, *, blamed: bool) -> None:
        self.end = (reason, blamed)


class Peer:
    """The other side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._data = b""

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self) -> mqtt5.Packet | None:
        """The next packet; None when the client has closed."""
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    packet, size = mqtt5.read(memoryview(self._data))
                except IndexError:
                    more = await self._reader.read(65536)
                    if not more:
                        return None
                    self._data += more
                else:
                    self._data = self._data[size:]
                    return packet


@asynccontextmanager
async def connected(
    response: bytes = CONNACK, **options
) -> AsyncIterator[tuple[Mqtt5Link, Handler, Peer, mqtt5.Packet]]:
    """A link to a peer that has accepted it with `response`, and the CONNECT that came."""
    peers: asyncio.Queue[Peer] = asyncio.Queue()
    server = await asyncio.start_server(lambda r, w: peers.put_nowait(Peer(r, w)), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    named = {"client_id": "a", "will": None, "session_expiry": 0, "receive_maximum": 10, **options}
    handler = Handler()
    link = Mqtt5Link(ConnectOptions(MqttUrl("127.0.0.1", port, username="user", password="secret"), **named), handler)
    opening = asyncio.create_task(link.open(DEADLINE))
    try:
        peer = await peers.get()
        connect = await peer.receive()
        peer.send(response)
        await opening
        yield link, handler, peer, connect
    finally:
        link.abort()
        server.close()


async def until(condition) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


async def test_connect_packet_has_client_id_and_limits():
    will = LastWill("will", b"gone")
    async with connected(session_expiry=60, will=will) as (_, _, _, connect):
        assert (connect.client_id, connect.username, connect.password) == ("a", "user", b"secret")
        assert (connect.clean_start, connect.session_expiry_interval, connect.receive_max) == (False, 60, 10)
        assert (connect.will.topic, connect.will.payload, connect.will.retain) == ("will", b"gone", True)
        assert connect.will.qos == QOS_1


async def test_limits_of_the_broker_are_reported():
    response = mqtt5.ConnAckPacket(session_present=True, receive_max=7, max_packet_size=1000).write()
    async with connected(response) as (_, handler, _, _):
        assert handler.granted == Opened(session_kept=True, window=7, maximum_packet=1000)
    async with connected() as (_, handler, _, _):
        assert handler.granted.maximum_packet == MAXIMUM_PACKET


@pytest.mark.parametrize(
    ("code", "permanent"),
    [(mqtt5.ConnAckReasonCode.NOT_AUTHORIZED, True), (mqtt5.ConnAckReasonCode.SERVER_BUSY, False)],
)
async def test_refused_connection_is_a_link_error_with_the_reason(code, permanent):
    with pytest.raises(LinkError, match=r"Not authorized|Server busy") as caught:
        async with connected(mqtt5.ConnAckPacket(reason_code=code).write()):
            pass
    assert caught.value.permanent is permanent


async def test_opening_that_is_cancelled_while_it_connects_leaves_no_error_behind():
    async def leave(url: MqttUrl) -> None:
        class Leaving(Mqtt5Link):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                opening.cancel()

        link = Leaving(ConnectOptions(url, "a", None, 0, 10), Handler())
        opening = asyncio.create_task(link.open(DEADLINE))
        await asyncio.wait([opening])
        assert opening.cancelled()
        await link.close()

    left: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left.append(context["message"]))
    async with await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0) as server:
        await leave(MqttUrl("127.0.0.1", server.sockets[0].getsockname()[1]))
    gc.collect()
    assert left == []


async def test_response_other_than_connack_is_a_link_error():
    with pytest.raises(LinkError, match="expected CONNACK"):
        async with connected(mqtt5.PingRespPacket().write()):
            pass


@given(
    payloads=st.lists(st.binary(max_size=300), max_size=8),
    cuts=st.lists(st.integers(min_value=1, max_value=50), min_size=1, max_size=40),
)
@settings(max_examples=50, deadline=None)
def test_packets_arrive_whole_however_the_bytes_are_cut(payloads, cuts):
    async def run() -> None:
        link = Mqtt5Link(ConnectOptions(MqttUrl("broker", 1), "a", None, 0, 10), handler := Handler())
        link.connection_made(Sink())
        data = CONNACK + b"".join(
            mqtt5.PublishPacket("a/b", payload, qos=QOS_1, packet_id=n).write() for n, payload in enumerate(payloads, 1)
        )
        position = 0
        for cut in cuts:
            link.data_received(data[position : position + cut])
            position += cut
        link.data_received(data[position:])
        link.abort()
        assert handler.messages == [("a/b", payload, 1, n) for n, payload in enumerate(payloads, 1)]

    asyncio.run(run())


async def test_large_packet_arrives():
    async with connected() as (_, handler, peer, _):
        payload = bytes(range(256)) * 40_000
        peer.send(mqtt5.PublishPacket("a", payload).write())
        await until(lambda: handler.messages)
        assert handler.messages == [("a", payload, 0, 0)]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00",
        b"\x30\xff\xff\xff\xff",
        b"\x32\x05\x00\x01a\x00\x07",
        b"\x30\x04\x00\x00\x00z",
        CONNACK,
        mqtt5.PubRecPacket(1).write(),
    ],
    ids=["type", "length", "short", "alias", "second-connack", "qos-2"],
)
async def test_protocol_violation_ends_the_connection_and_blames_no_message(data):
    async with connected() as (_, handler, peer, _):
        peer.send(data)
        await until(lambda: handler.end)
        assert handler.end[0].startswith("protocol error")
        assert handler.end[1] is False
        assert (await peer.receive()).reason_code == mqtt5.DisconnectReasonCode.PROTOCOL_ERROR
        assert await peer.receive() is None


async def test_panic_of_the_codec_ends_the_connection(monkeypatch):
    class PanicException(BaseException):
        pass

    def panic(_: object) -> None:
        raise PanicException("malformed")

    async with connected() as (_, handler, peer, _):
        monkeypatch.setattr(mqtt5, "read", panic)
        peer.send(mqtt5.PingRespPacket().write())
        await until(lambda: handler.end)
        assert handler.end[0].startswith("protocol error")


@pytest.mark.parametrize(
    ("code", "blamed"),
    [(mqtt5.DisconnectReasonCode.PACKET_TOO_LARGE, True), (mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER, False)],
)
async def test_disconnect_by_the_broker_reports_its_reason(code, blamed):
    async with connected() as (_, handler, peer, _):
        peer.send(mqtt5.DisconnectPacket(reason_code=code, reason_str="because").write())
        await until(lambda: handler.end)
        assert "(because)" in handler.end[0]
        assert handler.end[1] is blamed


async def test_pubacks_complete_their_messages_whatever_the_reason_code():
    async with connected() as (link, handler, peer, _):
        tokens = [link.publish("a", b"", qos=1, retain=False, properties=None) for _ in range(3)]
        peer.send(mqtt5.PubAckPacket(tokens[0], reason_code=mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS).write())
        peer.send(mqtt5.PubAckPacket(tokens[1], reason_code=mqtt5.PubAckReasonCode.NOT_AUTHORIZED).write())
        # Packet too large is no reason code of a PUBACK, but Mosquitto sends it.
        peer.send(bytes([0x40, 3, *tokens[2].to_bytes(2), 0x95]))
        await until(lambda: len(handler.responses) == 3)
        too_large = "Packet too large; raise the broker's limit (Mosquitto: message_size_limit)"
        assert handler.responses == [(tokens[0], None), (tokens[1], "Not authorized"), (tokens[2], too_large)]
        assert handler.blamed == [tokens[2]]
        assert handler.end is None


async def test_refused_filter_has_its_error():
    async with connected() as (link, handler, peer, _):
        token = link.subscribe(["a", "b"], no_local=True)
        subscribe = await peer.receive()
        (first, _) = subscribe.topic_filters
        assert (first.pattern, first.no_local, first.max_qos) == ("a", True, QOS_1)
        assert first.retain_handling == mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS
        codes = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE, mqtt5.SubAckReasonCode.NOT_AUTHORIZED]
        peer.send(mqtt5.SubAckPacket(subscribe.packet_id, codes).write())
        await until(lambda: handler.confirmations)
        assert handler.confirmations == [(token, [None, "Not authorized"])]


async def test_packet_identifiers_in_use_are_not_reused():
    async with connected() as (link, handler, _, _):
        first = link.publish("a", b"", qos=1, retain=False, properties=None)
        for _ in range(65_535):
            token = link.publish("a", b"", qos=1, retain=False, properties=None)
            assert token != first
            link.data_received(mqtt5.PubAckPacket(token).write())
        assert len(handler.responses) == 65_535


async def test_silent_broker_is_pinged_and_then_disconnected():
    async with connected(mqtt5.ConnAckPacket(server_keep_alive=1).write()) as (_, handler, peer, _):
        assert isinstance(await peer.receive(), mqtt5.PingReqPacket)
        await until(lambda: handler.end)
        assert handler.end[0].startswith("received nothing for")


async def test_close_sends_queued_packets_and_a_disconnect():
    async with connected() as (link, handler, peer, _):
        link.publish("a", b"last", qos=1, retain=False, properties=None)
        closing = asyncio.create_task(link.close())
        assert (await peer.receive()).payload == b"last"
        assert (await peer.receive()).reason_code == mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION
        assert await peer.receive() is None
        await closing
        assert handler.end is None


class Sink(asyncio.Transport):
    """A transport that leads nowhere."""

    def write(self, data: bytes) -> None:
        """Forget it."""

    def abort(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (b"\x20\x02\x00\x01", NO_MQTT_5),
        (mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION).write(), NO_MQTT_5),
        (mqtt5.ConnAckPacket(retain_available=False).write(), "Retain Available"),
        (mqtt5.ConnAckPacket(wildcard_subscription_available=False).write(), "Wildcard Subscription Available"),
        (mqtt5.ConnAckPacket(max_qos=mqtt5.QoS.AT_MOST_ONCE).write(), "Maximum QoS"),
        (mqtt5.ConnAckPacket(session_expiry_interval=0).write(), "Session Expiry Interval"),
    ],
)
async def test_broker_without_required_capabilities_is_refused_at_once(response, expected):
    with pytest.raises(LinkError) as caught:
        async with connected(response, session_expiry=60):
            pass
    assert expected in str(caught.value)
    assert caught.value.permanent


async def test_small_broker_limits_are_respected():
    response = mqtt5.ConnAckPacket(max_packet_size=128 * 1024, receive_max=20, session_expiry_interval=30).write()
    async with connected(response, session_expiry=3600) as (_, handler, _, _):
        assert (handler.granted.window, handler.granted.maximum_packet) == (20, 128 * 1024)
