"""The last windows of a symbol that ended while no aggregator ran."""

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from memory_broker import MemoryBroker, MemoryBus
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from aggregator.core import LateEnd
from aggregator.core.feeds import ImplausibleError
from aggregator.late_ends import MOST_AT_ONCE, REPEAT_SECONDS, RESPONSE_SECONDS, LateEnds, LateStep
from aggregator.service import Aggregator
from aggregator.subscriptions import SingleFilterSubscription, SymbolSubscriptions
from ingress_common.bus import Message
from ingress_common.model import (
    GRACE,
    Candle,
    FeedCondition,
    FeedState,
    History,
    InstanceState,
    Range,
    Source,
    Status,
)
from ingress_common.payloads import (
    decode_candle,
    decode_seed_request,
    encode_candle,
    encode_feed_state,
    encode_history,
    encode_status,
)
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import Topics

OPEN = Timeframe.H1.ceil(1_700_092_800) + 120
"""The minute after the stored ones: the third of its hour, so that minutes and hours go before it."""

TOPICS = Topics()
M1, M5 = Timeframe.M1, Timeframe.M5


def candle(timeframe: Timeframe, open_time: int, trades: int, *, closed: bool = False, price: str = "100.0") -> Candle:
    p = Decimal(price)
    return Candle(
        "OLD/USD", timeframe, open_time, p, p, p, p, Decimal(trades), p, trades,
        closed=closed, infilled=trades == 0, complete=True, revision=0, source=Source.WS, at=float(open_time),
    )  # fmt: skip


def retained(trades: int = 4) -> list[Candle]:
    """The forming candles of the moment at which the aggregator stopped, early in the minute OPEN."""
    below = {M1: trades}
    return [candle(t, t.floor(OPEN), below.get(t, trades + 2)) for t in TIMEFRAMES]


def stored(*later: Candle, minutes: int = 2) -> list[History]:
    """The response of a store with `minutes` closed minutes of one trade each, windows above them, and raw ticks."""
    batches = []
    for timeframe in TIMEFRAMES:
        end = timeframe.floor(OPEN)
        rows = [candle(timeframe, end - n * timeframe.seconds, 1, closed=True) for n in range(minutes, 0, -1)]
        covers = Range(rows[0].open_time, end + GRACE)
        more = later if timeframe is M1 else ()
        batches.append(History("OLD/USD", timeframe, Source.SNAPSHOT, covers, (*rows, *more)))
    return batches


def ended(retained: list[Candle], response: list[History]) -> LateEnd:
    late = LateEnd("OLD/USD")
    for one in retained:
        late.resume(one)
    for batch in response:
        late.history(batch)
    return late


def test_late_end_windows_have_stored_and_later_trades_and_are_incomplete():
    ticks = candle(M1, OPEN, 7), candle(M1, OPEN + 120, 3, price="120.0")
    late = ended(retained(), stored(*ticks))
    assert late.has_response
    last = late.last(OPEN + 1000.0)
    assert [(c.timeframe, c.open_time, c.trades) for c in last if c.closed] == [(M1, OPEN, 7)]
    open_windows = {c.timeframe: c for c in last if not c.closed}
    assert (open_windows[M1].open_time, open_windows[M1].trades) == (OPEN + 120, 3)
    # The two stored minutes are those of the hour.
    assert (open_windows[M5].open_time, open_windows[M5].trades, open_windows[M5].close) == (OPEN - 120, 12, 120)
    assert open_windows[Timeframe.H1].trades == 12
    assert open_windows.keys() == set(TIMEFRAMES)
    assert not any(c.complete for c in last)


def test_window_that_is_over_when_trading_ends_closes_with_what_traded():
    late = ended(retained(), stored(candle(M1, OPEN, 7), candle(M1, OPEN + 300, 3)))
    last = late.last(OPEN + 1000.0)
    closed = [(c.timeframe, c.open_time, c.trades) for c in last if c.closed]
    assert closed == [(M1, OPEN, 7), (M5, OPEN - 120, 9)]
    assert [(c.timeframe, c.trades) for c in last if not c.closed][:2] == [(M1, 3), (M5, 3)]


def test_minutes_without_stored_trades_are_not_infilled():
    late = ended(retained(), stored(candle(M1, OPEN + 240, 1)))
    last = late.last(OPEN + 1000.0)
    assert [(c.open_time, c.infilled) for c in last if c.timeframe is M1] == [(OPEN, False), (OPEN + 240, False)]


def test_retained_candle_counts_where_the_store_has_fewer_trades():
    late = ended(retained(trades=9), stored(candle(M1, OPEN, 7)))
    assert [(c.timeframe, c.trades) for c in late.last(OPEN + 9.0)][:2] == [(M1, 9), (M5, 11)]


def test_retained_candles_alone_close_the_windows_that_traded():
    late = ended([candle(M1, OPEN, 0), *retained()[1:]], [])
    assert not late.has_response
    last = late.last(OPEN + 9.0)
    assert [(c.timeframe, c.trades, c.complete) for c in last] == [(t, 6, False) for t in TIMEFRAMES[1:]]


def test_minute_in_the_future_is_not_waited_for():
    late = ended([candle(M1, OPEN + 10**9, 1)], stored(candle(M1, OPEN, 7)))
    assert {c.open_time for c in late.last(OPEN + 9.0) if c.timeframe is M5} == {OPEN - 120}
    ends = LateEnds()
    ends.next("OLD/USD", 0.0)
    batch = stored()[0]
    with pytest.raises(ImplausibleError):
        ends.history(replace(batch, covers=Range(OPEN, OPEN + 10**9)), OPEN + 9.0)


def test_seed_request_is_repeated_until_the_symbol_ends_without_it():
    ends = LateEnds()
    assert ends.next("OLD/USD", 0.0) is LateStep.SUBSCRIBE
    assert ends.next("OLD/USD", 1.0) is LateStep.REQUEST
    assert ends.next("OLD/USD", REPEAT_SECONDS) is LateStep.WAIT
    assert ends.next("OLD/USD", 1.0 + REPEAT_SECONDS) is LateStep.REQUEST
    assert ends.next("OLD/USD", RESPONSE_SECONDS) is LateStep.END
    assert ends.end("OLD/USD", OPEN) == []
    assert ends.symbols == frozenset()


def test_few_symbols_are_under_way_at_a_time():
    ends = LateEnds()
    steps = [ends.next(f"A{n}/USD", 0.0) for n in range(MOST_AT_ONCE + 1)]
    assert steps == [LateStep.SUBSCRIBE] * MOST_AT_ONCE + [LateStep.WAIT]


# --- on the bus -------------------------------------------------------------------------------------------------------


@dataclass
class Outside:
    """A gateway that does not follow OLD/USD any more, and everybody who listens. `response`: what the store has."""

    broker: MemoryBroker
    now: float
    response: list[History] = field(default_factory=list)
    published: list[Candle] = field(default_factory=list)
    retained: dict[str, bytes] = field(default_factory=dict)
    bus: MemoryBus = field(init=False)

    def __post_init__(self) -> None:
        self.bus = MemoryBus(self.broker, client_id="outside", inbound_limit=1000)

    async def run(self) -> None:
        async for event in self.bus.events():
            if isinstance(event, Message):
                await self._take(event)
                event.ack()

    async def _take(self, message: Message) -> None:
        if message.topic == TOPICS.seed_requests():
            assert decode_seed_request(message.payload).symbols == ("OLD/USD",)
            for batch in self.response:
                await self.bus.publish(TOPICS.history("OLD/USD", batch.timeframe), encode_history(batch))
        if "/candles/" in message.topic or "/ending/" in message.topic:
            self.retained[message.topic] = message.payload
            if message.payload and not message.retain:
                self.published.append(decode_candle(message.payload))

    async def before(self, patterns: list[str]) -> None:
        """What is retained when the aggregator starts."""
        for one in retained():
            await self.bus.publish(TOPICS.candles(one.symbol, one.timeframe), encode_candle(one), retain=True)
        rejected = {"OLD/USD": "delisted"} if "*/USD" in patterns else {}
        feed = FeedState("f", FeedCondition.LIVE, OPEN - 600.0, (), rejected)
        await self.bus.publish(TOPICS.feed("f"), encode_feed_state(feed), retain=True)
        await self.gateway(patterns)

    async def gateway(self, patterns: list[str]) -> None:
        details = {"patterns": patterns, "owned_since": {}, "kraken_time": rfc3339(self.now)}
        status = Status("kraken-gateway", "g", InstanceState.ONLINE, "1", 0.0, details)
        await self.bus.publish(TOPICS.status("kraken-gateway", "g"), encode_status(status), retain=True)

    def left(self) -> set[str]:
        return {topic for topic, payload in self.retained.items() if payload}


@pytest.mark.parametrize(
    ("subscriptions", "patterns"),
    [(SymbolSubscriptions, ["*/USD"]), (SingleFilterSubscription, ["BTC/EUR"])],
    ids=["delisted", "taken-out"],
)
async def test_new_aggregator_closes_the_windows_of_a_symbol_that_ended_before(subscriptions, patterns):
    broker = MemoryBroker()
    outside = Outside(broker, OPEN + 200.0, stored(candle(M1, OPEN, 7)))
    bus = MemoryBus(broker, client_id="aggregator", session_expiry=60, inbound_limit=1000)
    service = Aggregator(bus, TOPICS, subscriptions(TOPICS), "a", CollectorRegistry(), lambda: float(OPEN))
    async with outside.bus:
        await outside.bus.subscribe("ingress/#")
        listening = asyncio.create_task(outside.run())
        await outside.before(patterns)
        running = asyncio.create_task(service.run())
        async with asyncio.timeout(20):
            while outside.left() != {TOPICS.ending("OLD/USD", t) for t in TIMEFRAMES[2:]} | {
                TOPICS.candles("OLD/USD", t) for t in (M1, M5)
            }:
                await asyncio.sleep(0.05)
            # Days later.
            outside.now += 8 * 86_400
            await outside.gateway(patterns)
            while outside.left() != {TOPICS.candles("OLD/USD", t) for t in TIMEFRAMES}:
                await asyncio.sleep(0.05)
        closed = [(c.timeframe, c.open_time, c.trades, c.complete) for c in outside.published if c.closed]
        assert closed == [(t, t.floor(OPEN), 7 if t is M1 else 9, False) for t in TIMEFRAMES]
        for task in (running, listening):
            task.cancel()
        await asyncio.wait([running, listening])
