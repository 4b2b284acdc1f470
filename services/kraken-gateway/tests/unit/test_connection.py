"""What every connection does by itself: pings, its end when nothing comes, and no end because we are behind."""

import asyncio
import json

import pytest
from gateway_world import HEARTBEAT, SkippingLoop
from prometheus_client import CollectorRegistry

from ingress_common.times import rfc3339
from kraken_gateway.kraken.connection import INACTIVITY, SEND_GAP, Connection, ConnectionLost
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.protocol import Heartbeat
from kraken_gateway.metrics import GatewayMetrics


class Socket:
    """Takes requests and notes when; its transport can be paused."""

    def __init__(self, loop: SkippingLoop) -> None:
        self.loop = loop
        self.sent: list[tuple[float, dict]] = []
        self.reading = True
        self.transport = self

    async def send(self, text: str) -> None:
        self.sent.append((self.loop.time(), json.loads(text)))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@pytest.fixture
def loop():
    loop = SkippingLoop()
    yield loop
    loop.close()


@pytest.fixture
def connect(loop):
    async def make() -> Connection:
        clock = KrakenClock(lambda: 1e9, loop.time)
        return Connection("live", Socket(loop), clock, GatewayMetrics(CollectorRegistry()), lambda: None)

    return loop.run_until_complete(make())


def test_silent_connection_is_pinged_and_ends(loop, connect):
    async def run() -> None:
        while True:
            await connect.wait(loop.time() + 1.0)

    with pytest.raises(ConnectionLost) as lost:
        loop.run_until_complete(run())
    assert lost.value.reason == "inactive"
    assert INACTIVITY <= loop.time() <= INACTIVITY + 1
    assert [at for at, request in connect._socket.sent if request["method"] == "ping"] == [0.0, 5.0]


def test_backlog_is_never_mistaken_for_silence(loop, connect):
    async def run() -> None:
        connect.take_in(HEARTBEAT)
        for _ in range(100):
            await connect.wait(loop.time() + 1.0)
            await asyncio.sleep(1.0)
        assert connect.lag == pytest.approx(100.0, abs=1.0)
        assert not connect.caught_up
        assert [type(received.frame) for received in connect.receive()] == [Heartbeat]

    loop.run_until_complete(run())


def test_resumed_process_reads_buffered_frames_before_judging_silence(loop, connect):
    async def run() -> None:
        waiting = asyncio.create_task(connect.wait(loop.time() + 1.0))
        await asyncio.sleep(0)
        loop.now += 600.0
        await waiting
        # It is there a moment later.
        for _ in range(600):
            connect.take_in(HEARTBEAT)
        await connect.wait(loop.time() + 1.0)
        assert not connect.caught_up
        while connect.backlog:
            assert not any(interruptions(connect))
        assert not connect.caught_up  # the rest of a stream that was held up is awaited
        connect.take_in(pong_of(loop.time()))
        assert interruptions(connect) == [False]
        assert connect.caught_up

    loop.run_until_complete(run())


def pong_of(at: float) -> str:
    return json.dumps({"method": "pong", "req_id": 1, "time_out": rfc3339(1e9 + at)})


def interruptions(connection: Connection) -> list[bool]:
    return [received.interrupted for received in connection.receive()]


def test_after_a_stall_a_pong_shows_whether_frames_are_missing(loop, connect):
    async def run() -> None:
        connect.take_in(pong_of(0.0))
        assert interruptions(connect) == [False]
        await asyncio.sleep(9.0)
        for held_up in range(2):
            connect.take_in(HEARTBEAT)
            assert interruptions(connect) == [False]
            assert not connect.caught_up, held_up
        pings = len(connect._socket.sent)
        await connect.wait(loop.time())
        assert len(connect._socket.sent) == pings + 1
        connect.take_in(pong_of(loop.time()))
        assert interruptions(connect) == [True]
        assert connect.caught_up

    loop.run_until_complete(run())


def test_requests_are_paced_and_slow_down_on_rate_exceeded(loop, connect):
    async def run() -> None:
        for _ in range(3):
            await connect.send('{"method":"ping","req_id":1}')
        connect.take_in('{"Error":"Exceeded msg rate"}')
        list(connect.receive())
        await connect.send('{"method":"ping","req_id":1}')
        await connect.send('{"method":"ping","req_id":1}')

    loop.run_until_complete(run())
    times = [at for at, _ in connect._socket.sent]
    assert times == pytest.approx([0.0, SEND_GAP, 2 * SEND_GAP, 5.2, 5.2 + 2 * SEND_GAP])


def test_reading_pauses_while_the_inbox_is_full(loop, connect, monkeypatch):
    monkeypatch.setattr("kraken_gateway.kraken.inbox.FULL", 3)

    async def run() -> None:
        for _ in range(3):
            connect.take_in(HEARTBEAT)
        assert not connect._socket.reading
        list(connect.receive())
        assert connect._socket.reading

    loop.run_until_complete(run())
