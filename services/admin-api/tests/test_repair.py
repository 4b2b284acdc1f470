"""Repair: what is requested, how often, and when it counts as filled."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest
from memory_broker import MemoryBroker, MemoryBus
from prometheus_client import CollectorRegistry

from admin_api.reconciler import repair
from admin_api.reconciler.audit import audited_range
from admin_api.reconciler.context import Context
from admin_api.reconciler.gaps import FoundGap, GapSource
from admin_api.reconciler.repair import GapState, Repairer, RepairMetrics
from admin_api.system.state import SystemState
from ingress_common.bus import Message
from ingress_common.model import FeedCondition, Range
from ingress_common.payloads import decode_history_request
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import Topics
from ingress_store import Retention, SqliteStore

NOW = 1_700_000_030.0
M1, M5, H1 = Timeframe.M1, Timeframe.M5, Timeframe.H1
TOKEN = {"Authorization": "Bearer s3cret-token"}


class Bench:
    """A repairer on a store, with a clock that is moved by hand, and the requests that it made."""

    def __init__(self, store, bus, gateway, example):
        self.now = NOW
        self.live = {"BTC/USD": NOW - 9 * 86400, "ETH/USD": NOW - 9 * 86400}
        self.owned = True
        self.store = store
        self.gateway = gateway
        self.example = example
        topics = Topics()
        context = Context(
            bus, topics, store, SystemState(topics), lambda symbol: self.owned, lambda: self.live, lambda: self.now
        )
        self.repairer = Repairer(context, RepairMetrics(CollectorRegistry()), uniform=lambda: 0.5)

    def gap(self, timeframe, back, windows=1, **changes):
        start = timeframe.floor(NOW - back)
        span = Range(start, start + windows * timeframe.seconds)
        found = FoundGap("BTC/USD", timeframe, span, source=GapSource.STORE, found_at=self.now)
        return replace(found, **changes)

    async def take(self, *gaps, horizon=7 * 86400):
        audited = {timeframe: audited_range(timeframe, self.now, horizon, Retention()) for timeframe in TIMEFRAMES}
        await self.repairer.take(gaps, audited)

    async def requested(self):
        """Move on, and give the requests that were made: symbol, timeframe, start, end."""
        await self.repairer.step()
        requests = []
        async with asyncio.timeout(5):
            # What was published before is delivered before this.
            await (await self.gateway.publish("marker", b""))
            async for event in self.gateway.events():
                if isinstance(event, Message):
                    event.ack()
                    if event.topic == "marker":
                        break
                    request = decode_history_request(event.payload)
                    requests.append((*request.symbols, request.timeframe, request.range))
        return requests

    async def write(self, timeframe, span, symbol="BTC/USD", **changes):
        opens = range(int(span.start), int(span.end), timeframe.seconds)
        rows = [
            msgspec.structs.replace(self.example, symbol=symbol, timeframe=timeframe, open_time=open_time, **changes)
            for open_time in opens
        ]
        await self.store.write(rows, [])

    @property
    def states(self):
        return [(tracked.gap.timeframe, tracked.state, tracked.attempts) for tracked in self.repairer.gaps]


@pytest.fixture
async def bench(tmp_path, candle):
    broker = MemoryBroker()
    async with (
        MemoryBus(broker, client_id="admin") as bus,
        MemoryBus(broker, client_id="gateway") as gateway,
        SqliteStore(tmp_path / "c.db", clock=lambda: NOW) as store,
    ):
        await gateway.subscribe(Topics().history_requests(), "marker")
        yield Bench(store, bus, gateway, candle())


async def test_a_gap_is_requested_once_and_done_when_the_store_has_it(bench):
    gap = bench.gap(M1, 3600, 5)
    await bench.take(gap)
    assert await bench.requested() == [("BTC/USD", M1, gap.range)]
    assert bench.states == [(M1, GapState.REQUESTED, 0)]
    bench.now += 4
    assert await bench.requested() == []
    await bench.write(M1, gap.range)
    assert await bench.requested() == []
    assert bench.states == []
    assert bench.repairer.filled == 5


async def test_one_request_a_symbol_and_four_in_all_are_under_way(bench):
    symbols = [f"S{number}/USD" for number in range(6)]
    bench.live = dict.fromkeys(symbols, NOW)
    gaps = [bench.gap(M1, back, symbol=symbol) for symbol in symbols for back in (7200, 36000)]
    await bench.take(*gaps)
    requested = await bench.requested()
    assert len(requested) == len({symbol for symbol, *_ in requested}) == 4
    await bench.write(M1, requested[0][2], symbol=requested[0][0])
    assert [symbol for symbol, *_ in await bench.requested()] == ["S4/USD"]


async def test_attempt_without_result_is_retried_with_backoff_until_unfillable(bench):
    gap = bench.gap(M1, 3600)
    await bench.take(gap)
    pauses = []
    for _ in range(5):
        waited = 0
        while not await bench.requested():
            waited += 5
            bench.now += 5
        pauses.append(waited)
    # A minute for the answer, then 15 s, 30 s and so on.
    assert pauses == [0, 80, 95, 125, 185]
    bench.now += 61
    await bench.requested()
    assert bench.states == [(M1, GapState.UNFILLABLE, 5)]
    check = bench.repairer.check(bench.now)
    assert not check.ok
    assert "Kraken does not fill: BTC/USD 1m" in check.detail
    bench.now += 3500
    assert await bench.requested() == []
    bench.now += 200
    assert len(await bench.requested()) == 1


async def test_an_attempt_goes_on_while_candles_arrive(bench):
    gap = bench.gap(M1, 3600, 6)
    await bench.take(gap)
    assert len(await bench.requested()) == 1
    for number in range(5):
        bench.now += 19
        start = gap.range.start + number * 60
        await bench.write(M1, Range(start, start + 60))
        assert await bench.requested() == []
        assert bench.repairer.gaps[0].missing == 5 - number
    bench.now += 21
    again = await bench.requested()
    # What it had brought counts: no attempt was lost, and the rest is requested at once.
    assert len(again) == 1
    assert bench.states == [(M1, GapState.REQUESTED, 0)]


async def test_only_what_is_still_missing_is_requested(bench):
    gap = bench.gap(M1, 6 * 3600, 300)
    await bench.take(gap)
    assert await bench.requested() == [("BTC/USD", M1, gap.range)]
    start, end = gap.range.start, gap.range.end
    await bench.write(M1, Range(start + 60, start + 6000))
    await bench.write(M1, Range(start + 6060, end - 120))
    assert await bench.requested() == []
    bench.now += 21
    assert await bench.requested() == [("BTC/USD", M1, Range(end - 120, end))]
    await bench.write(M1, Range(end - 120, end))
    # What was not in the request does not hold up the next one.
    assert await bench.requested() == [("BTC/USD", M1, Range(start + 6000, start + 6060))]


async def test_rolled_up_gap_waits_for_its_minutes(bench):
    minutes, five = bench.gap(M1, 3600, 5), bench.gap(M5, 3600, 1)
    await bench.take(five, minutes)
    assert [timeframe for _, timeframe, _ in await bench.requested()] == [M1]
    await bench.write(M1, minutes.range)
    assert await bench.requested() == []
    bench.now += 11
    assert await bench.requested() == [("BTC/USD", M5, five.range)]


async def test_gap_filled_by_the_roll_up_is_not_requested(bench):
    minutes, five = bench.gap(M1, 3600, 5), bench.gap(M5, 3600, 1)
    await bench.take(five, minutes)
    await bench.requested()
    await bench.write(M1, minutes.range)
    await bench.write(M5, five.range)
    assert await bench.requested() == []
    bench.now += 11
    assert await bench.requested() == []
    assert bench.states == []


async def test_unfillable_minutes_do_not_block_higher_timeframes(bench):
    minutes, hour = bench.gap(M1, 7200, 60), bench.gap(H1, 7200, 1)
    await bench.take(hour, minutes)
    timeframes = set()
    for _ in range(400):
        timeframes |= {timeframe for _, timeframe, _ in await bench.requested()}
        bench.now += 5
    assert H1 in timeframes


async def test_an_incomplete_candle_is_a_gap_until_a_complete_one_is_there(bench):
    gap = bench.gap(H1, 7200, 1, incomplete=True)
    await bench.write(H1, gap.range, complete=False)
    await bench.take(gap)
    assert await bench.requested() == [("BTC/USD", H1, gap.range)]
    bench.now += 4
    await bench.requested()
    assert bench.states == [(H1, GapState.REQUESTED, 0)]
    await bench.write(H1, gap.range, revision=1)
    await bench.requested()
    assert bench.states == []


async def test_symbols_without_a_live_feed_or_of_another_instance_are_not_repaired(bench):
    await bench.take(bench.gap(M1, 3600))
    bench.live = {}
    assert await bench.requested() == []
    bench.now += 3600
    assert bench.repairer.check(bench.now).ok
    bench.live, bench.owned = {"BTC/USD": NOW}, False
    assert await bench.requested() == []
    bench.owned = True
    assert len(await bench.requested()) == 1


async def test_symbols_without_a_live_feed_leave_room_for_the_others(bench, monkeypatch):
    monkeypatch.setattr(repair, "MOST_GAPS", 4)
    monkeypatch.setattr(repair, "MOST_OUT_OF_REACH", 2)
    gone = [bench.gap(M1, 7200, symbol=f"GONE{number}/USD") for number in range(5)]
    theirs = [bench.gap(M1, back) for back in (7200, 36000, 72000)]
    await bench.take(*gone, *theirs)
    assert [t.gap for t in bench.repairer.gaps if t.gap.symbol == "BTC/USD"] == [theirs[1], theirs[0]]
    assert len(bench.repairer.gaps) == 4


async def test_gaps_of_unfollowed_symbols_are_not_reported_as_being_repaired(bench):
    await bench.take(bench.gap(M1, 600), bench.gap(M1, 600, symbol="ADA/USD"), bench.gap(M5, 600, symbol="ADA/USD"))
    detail = bench.repairer.check(bench.now).detail
    assert detail == "1 gaps are being repaired, 2 stay: no live feed carries their symbols"


async def test_a_gap_turns_health_red_after_fifteen_minutes_with_a_live_feed(bench):
    await bench.take(bench.gap(M1, 3600))
    bench.now += 890
    assert bench.repairer.check(bench.now).ok
    bench.now += 20
    assert "not filled for 15 minutes" in bench.repairer.check(bench.now).detail
    bench.live["BTC/USD"] = bench.now - 60
    assert bench.repairer.check(bench.now).ok


async def test_unfillable_gap_is_retried_when_its_feed_returns(bench):
    await bench.take(bench.gap(M1, 3600))
    while GapState.UNFILLABLE not in [state for _, state, _ in bench.states]:
        await bench.requested()
        bench.now += 30
    bench.live["BTC/USD"] = bench.now
    assert len(await bench.requested()) == 1
    assert bench.states == [(M1, GapState.REQUESTED, 0)]


async def test_a_gap_of_an_aggregator_is_left_to_it_for_a_minute(bench):
    await bench.take(bench.gap(M1, 3600, source=GapSource.AGGREGATOR))
    assert await bench.requested() == []
    bench.now += 61
    assert len(await bench.requested()) == 1


async def test_gap_no_longer_reported_by_its_aggregator_is_dropped(bench):
    gap = bench.gap(M1, 3600, source=GapSource.AGGREGATOR)
    await bench.take(gap)
    await bench.take(gap)
    assert bench.states == [(M1, GapState.WAITING, 0)]
    await bench.take()
    assert bench.states == []


async def test_grown_gap_keeps_its_attempts(bench):
    gap = bench.gap(M1, 3600)
    await bench.take(gap)
    await bench.requested()
    bench.now += 61
    await bench.requested()
    assert bench.states == [(M1, GapState.WAITING, 1)]
    more = replace(gap, range=Range(gap.range.start, gap.range.end + 120))
    await bench.take(more)
    assert bench.states == [(M1, GapState.WAITING, 1)]
    assert [tracked.gap.windows for tracked in bench.repairer.gaps] == [3]
    await bench.take(gap)
    assert [tracked.gap.windows for tracked in bench.repairer.gaps] == [3]


async def test_gap_missing_in_a_later_audit_is_read_once_more_or_dropped(bench):
    filled, old = bench.gap(M1, 3600), bench.gap(M1, 3 * 86400)
    await bench.take(filled, old)
    await bench.write(M1, filled.range)
    await bench.take(horizon=86400)
    assert bench.states == []
    assert bench.repairer.filled == 1


async def test_a_long_gap_is_cut_into_days(bench):
    await bench.take(bench.gap(M1, 3 * 86400, 2880))
    assert all(tracked.gap.windows <= 1440 for tracked in bench.repairer.gaps)
    assert sum(tracked.gap.windows for tracked in bench.repairer.gaps) == 2880
    assert len(await bench.requested()) == 1


async def test_no_attempt_fails_while_the_store_is_unavailable(bench, tmp_path):
    await bench.take(bench.gap(M1, 3600))
    await bench.requested()
    bench.repairer._extend_timeouts()
    bench.now += 55
    bench.repairer._extend_timeouts()
    bench.now += 55
    await bench.requested()
    assert bench.states == [(M1, GapState.REQUESTED, 0)]


# --- over HTTP --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def kraken(world, timeframes=(M1,)):
    """Answers history requests like gateway, aggregator and writer together; gives the requests."""
    requests = []

    async def answer():
        async for event in world.client.events():
            if isinstance(event, Message):
                request = decode_history_request(event.payload)
                event.ack()
                requests.append(request)
                if request.timeframe in timeframes:
                    step = request.timeframe.seconds
                    opens = range(int(request.range.start), int(request.range.end), step)
                    await world.store(
                        *(
                            msgspec.structs.replace(
                                world.example, symbol=request.symbols[0], timeframe=request.timeframe, open_time=at
                            )
                            for at in opens
                        )
                    )

    await world.client.subscribe(world.topics.history_requests())
    task = asyncio.create_task(answer())
    try:
        yield requests
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def example(world, candle):
    world.example = candle()
    return world.example


async def test_a_gap_in_the_store_is_found_requested_and_filled(world, candle, example):
    await world.store(candle(-20), candle(-12), candle(-2))
    async with kraken(world) as requests, world.running() as http:
        await world.alive()

        async def filled():
            return (await http.get("/gaps")).json()["filled_since_start"] == 16

        await world.until(filled)
        assert len((await http.get(f"/candles/BTC-USD?from={candle(-20).open_time}")).json()["candles"]) == 19
        assert requests[0].symbols == ("BTC/USD",)
        assert "ingress_repair_filled_total 16.0" in (await http.get("/metrics")).text


async def test_a_range_is_requested_even_if_nothing_is_missing_there(world, candle, example):
    await world.store(*(candle(n) for n in range(-30, 0)))
    async with kraken(world) as requests, world.running() as http:
        await world.healthy()
        await world.until_failing()
        wanted = {"symbol": "BTC-USD", "from": rfc3339(candle(-9).open_time), "to": candle(-4).open_time}
        answer = await http.post("/repair", json=wanted, headers=TOKEN)
        assert answer.status_code == 202
        (planned,) = answer.json()["planned"]
        assert planned == {
            "symbol": "BTC/USD",
            "timeframe": "1m",
            "from": rfc3339(candle(-9).open_time),
            "to": rfc3339(candle(-4).open_time),
        }
        await world.until(lambda: requests)
        assert requests[0].range == Range(candle(-9).open_time, candle(-4).open_time)


async def test_without_a_range_everything_is_audited_now(world, candle, example):
    async with kraken(world) as requests, world.running() as http:
        await world.healthy()
        await world.until(lambda: world.service.reconciler.auditor.last_at)
        await world.store(candle(-9), candle(-2))
        world.now += 1
        answer = await http.post("/repair", headers=TOKEN)
        assert answer.status_code == 202
        assert answer.json()["planned"] == []
        await world.until(lambda: requests)


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"symbol": "DOGE/USD"}, 404, "unknown symbol: DOGE/USD"),
        ({"symbol": "BTCUSD"}, 422, "symbol: expected a symbol"),
        ({"timeframe": "2m"}, 422, "timeframe: expected a timeframe of 1m"),
        ({"symbol": "BTC/USD", "from": "yesterday"}, 422, "from: expected an RFC 3339 time"),
        ({"from": 1_699_990_000}, 422, "expected `symbol` and `from`"),
        ({"symbol": "BTC/USD", "to": 1_699_990_000}, 422, "expected `symbol` and `from`"),
        ({"symbol": "BTC/USD", "from": 1_699_990_000, "to": 1_699_980_000}, 422, "`from` earlier than `to`"),
        ({"symbol": "BTC/USD", "from": 1_800_000_000}, 422, "in the past"),
        ({"symbol": "BTC/USD", "from": 1_695_000_000}, 422, "at most 31 days of 1m"),
        ({"symbol": "BTC/USD", "from": 1_690_000_000, "to": 1_690_003_600}, 422, "90 days that 1m is kept"),
        ({"symbol": "ETH/USD", "from": 1_699_990_000}, 503, "no live feed carries ETH/USD"),
        ({"symbol": "BTC/USD", "until": 1}, 422, "until"),
        ([], 422, ""),
    ],
)
async def test_invalid_repair_request_gets_a_problem_with_the_reason(world, candle, body, status, named):
    await world.store(candle(), candle(symbol="ETH/USD"))
    async with world.running() as http:
        await world.healthy()
        await world.until_failing()
        answer = await http.post("/repair", json=body, headers=TOKEN)
        assert answer.status_code == status, answer.text
        assert named in answer.json()["detail"]
        assert (await http.post("/repair", json=body)).status_code == 401


async def test_without_a_live_feed_nothing_can_be_repaired(world, candle):
    await world.store(candle())
    async with world.running() as http:
        await world.services()
        await world.feed(state=FeedCondition.DOWN)
        await world.until_failing("feeds", "symbols", "seeds")
        answer = await http.post("/repair", headers=TOKEN)
        assert answer.status_code == 503
        assert "no feed is live" in answer.json()["detail"]


async def test_without_a_broker_nothing_can_be_repaired(world, candle):
    await world.store(candle())
    async with world.running() as http:
        world.bus.drop(reconnect=False)
        await world.until_failing("broker", "data", "feeds", "kraken-gateway", "aggregator", "influx-writer")
        assert (await http.post("/repair", headers=TOKEN)).status_code == 503


async def test_a_body_that_is_no_json_is_shown(world):
    async with world.running() as http:
        headers = {**TOKEN, "Content-Type": "application/json"}
        answer = await http.post("/repair", content=b'{"symbol": BTC}', headers=headers)
    detail = """expected a body in JSON, got '{"symbol": BTC}' (Expecting value, at character 11)"""
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)
    assert answer.json()["errors"] == [{"name": "", "detail": detail}]
