"""The shell on the bus: what it subscribes to, requests, publishes and acknowledges."""

import asyncio
from contextlib import asynccontextmanager
from decimal import Decimal
from uuid import uuid4

import pytest
from memory_broker import MemoryBroker, MemoryBus
from prometheus_client import CollectorRegistry

from aggregator.service import Aggregator
from aggregator.subscriptions import SingleFilterSubscription, SymbolSubscriptions
from ingress_common.bus import Message
from ingress_common.minute_trades import MinuteTrades, trades_property
from ingress_common.model import (
    Candle,
    FeedCondition,
    FeedState,
    History,
    Range,
    RepublishRequest,
    Source,
    Watermark,
)
from ingress_common.payloads import (
    decode_candle,
    decode_dead_letter,
    decode_history_request,
    decode_seed_request,
    decode_status,
    encode_candle,
    encode_feed_state,
    encode_history,
    encode_republish_request,
    encode_watermark,
)
from ingress_common.sequence import REQUEST, numbered, request_of
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.topics import Topics

OPEN = 1_700_092_800
TOPICS = Topics()
SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD", "ADA/EUR", "XRP/GBP", "DOGE/USD")


@pytest.fixture(autouse=True)
def seeds_at_once(monkeypatch) -> None:
    """Seeds are requested without waiting for Kraken's late trades."""
    monkeypatch.setattr("aggregator.service._SEED_AFTER_SECONDS", 0.0)


class Recording(MemoryBus):
    """Notes the candles that are published, and whether they are retained."""

    def __init__(self, *args, **named) -> None:
        super().__init__(*args, **named)
        self.candles: list[tuple[Candle, bool]] = []

    async def publish(self, topic, payload, **options):
        if "/candles/" in topic:
            self.candles.append((decode_candle(payload), options.get("retain", False)))
        return await super().publish(topic, payload, **options)


class Outside:
    """The gateway and everyone else, on a bus of their own."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.bus = MemoryBus(broker, client_id="outside")
        self.seen: list[Message] = []
        self.at = float(OPEN)

    async def listen(self) -> None:
        async for event in self.bus.events():
            if isinstance(event, Message):
                self.seen.append(event)
                event.ack()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        await (await self.bus.publish(topic, payload, retain=retain))

    async def feed(self, symbols=SYMBOLS) -> None:
        state = FeedState("f", FeedCondition.LIVE, OPEN - 5.0, tuple(symbols))
        await self.publish(TOPICS.feed("f"), encode_feed_state(state), retain=True)

    async def watermark(self, instant: float, trades: MinuteTrades | None = None) -> None:
        # The gateway sends one a second; a longer pause would mean that some were lost.
        self.at += 1.0
        mark, properties = encode_watermark(Watermark("f", instant, self.at)), trades_property(trades or {})
        await (await self.bus.publish(TOPICS.watermark("f"), mark, properties=properties))

    async def seed(self, symbol: str, taken: float, windows: int = 1) -> None:
        for timeframe in TIMEFRAMES:
            now = timeframe.floor(taken)
            start = now - windows * timeframe.seconds
            rows = tuple(candle(symbol, window, timeframe, at=taken) for window in range(start, now, timeframe.seconds))
            history = History(symbol, timeframe, Source.SNAPSHOT, Range(start, taken), rows)
            await self.publish(TOPICS.history(symbol, timeframe), encode_history(history))

    def topics(self, part: str) -> list[str]:
        return [message.topic for message in self.seen if f"/{part}/" in message.topic]

    def candles(self) -> list[Candle]:
        return [decode_candle(message.payload) for message in self.seen if "/candles/" in message.topic]

    async def until(self, condition) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)


def candle(symbol: str, open_time: int, timeframe=Timeframe.M1, *, at: float, trades: int = 1) -> Candle:
    p = Decimal("100.0")
    return Candle(
        symbol, timeframe, open_time, p, p, p, p, Decimal("1.00000000"), p, trades,
        closed=False, infilled=False, complete=True, revision=0, source=Source.WS, at=at,
    )  # fmt: skip


def aggregator(
    broker: MemoryBroker, name: str = "a", subscriptions=SymbolSubscriptions, clock=lambda: float(OPEN)
) -> Aggregator:
    bus = MemoryBus(broker, client_id=f"{name}-{uuid4().hex}", session_expiry=60)
    return Aggregator(bus, TOPICS, subscriptions(TOPICS), name, CollectorRegistry(), clock)


@asynccontextmanager
async def running(*services: Aggregator):
    tasks = [asyncio.create_task(service.run()) for service in services]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()


@asynccontextmanager
async def outside(broker: MemoryBroker):
    out = Outside(broker)
    async with out.bus:
        await out.bus.subscribe("ingress/#")
        listening = asyncio.create_task(out.listen())
        try:
            yield out
        finally:
            listening.cancel()


async def start_symbol(out: Outside, service: Aggregator, symbols=("BTC/USD",), windows: int = 1) -> None:
    await out.feed(symbols)
    await out.until(lambda: set(service._engine.series) == set(symbols))
    await out.watermark(OPEN + 10)
    await out.until(lambda: any(topic.endswith("/seed") for topic in out.topics("request")))
    for symbol in symbols:
        await out.seed(symbol, OPEN + 12.0, windows)


@pytest.mark.parametrize("subscriptions", [SymbolSubscriptions, SingleFilterSubscription])
async def test_seed_is_requested_after_the_first_watermark_and_candles_follow(subscriptions):
    broker = MemoryBroker()
    service = aggregator(broker, subscriptions=subscriptions)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        [request] = [m for m in out.seen if m.topic == TOPICS.seed_requests()]
        assert decode_seed_request(request.payload).symbols == ("BTC/USD",)
        await out.publish(TOPICS.raw("BTC/USD"), encode_candle(candle("BTC/USD", OPEN, at=OPEN + 20.0, trades=3)))
        await out.watermark(OPEN + 61)
        await out.until(lambda: any(c.closed and c.open_time == OPEN for c in out.candles()))
        [closed] = [c for c in out.candles() if c.closed and c.open_time == OPEN]
        assert (closed.trades, closed.timeframe) == (3, Timeframe.M1)
        await out.until(lambda: {c.timeframe for c in out.candles() if not c.closed} == set(TIMEFRAMES))


async def test_seed_request_is_delayed_without_blocking_messages(monkeypatch):
    monkeypatch.setattr("aggregator.service._SEED_AFTER_SECONDS", 1.0)
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out, running(service):
        await out.feed(("BTC/USD",))
        await out.until(lambda: "BTC/USD" in service._engine.series)
        await out.watermark(OPEN + 10)
        await out.publish(TOPICS.raw("BTC/USD"), b"{broken")
        await out.until(lambda: out.topics("dead-letter"))
        assert out.topics("request") == []
        await out.until(lambda: TOPICS.seed_requests() in out.topics("request"))


async def test_repeated_feed_state_republishes_no_forming_candles():
    broker = MemoryBroker()
    service = aggregator(broker)

    def forming(symbol: str) -> list[Timeframe]:
        return [candle.timeframe for candle in out.candles() if candle.symbol == symbol and not candle.closed]

    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        await out.until(lambda: set(forming("BTC/USD")) == set(TIMEFRAMES))
        before = forming("BTC/USD")
        await out.feed(("BTC/USD",))
        await out.feed(("BTC/USD", "ETH/USD"))
        await out.until(lambda: set(service._engine.series) == {"BTC/USD", "ETH/USD"})
        await out.watermark(OPEN + 14)
        await out.seed("ETH/USD", OPEN + 15.0)
        await out.until(lambda: set(forming("ETH/USD")) == set(TIMEFRAMES))
        assert forming("BTC/USD") == before


async def test_start_publishes_no_old_candles_as_retained():
    broker = MemoryBroker()
    bus = Recording(broker, client_id="a", session_expiry=60)
    service = Aggregator(bus, TOPICS, SymbolSubscriptions(TOPICS), "a", CollectorRegistry(), lambda: float(OPEN))
    async with outside(broker) as out, running(service):
        await start_symbol(out, service, windows=10)
        await out.watermark(OPEN + 61)
        await out.until(lambda: any(c.closed and c.open_time == OPEN for c in out.candles()))
    closed = [(c.open_time, retained) for c, retained in bus.candles if c.closed and c.timeframe is Timeframe.M1]
    assert len(closed) > 2
    assert [open_time for open_time, retained in closed if retained] == [OPEN - 60, OPEN]


class Unresponsive(MemoryBus):
    """The broker responds to a subscription to candles only once `responds` is set."""

    def __init__(self, *args, **named) -> None:
        super().__init__(*args, **named)
        self.responds = asyncio.Event()

    async def subscribe(self, *filters, no_local=False):
        await super().subscribe(*filters, no_local=no_local)
        if any("/candles/" in topic_filter for topic_filter in filters):
            await self.responds.wait()


async def test_messages_are_processed_while_a_subscription_is_unconfirmed():
    broker = MemoryBroker()
    bus = Unresponsive(broker, client_id="a", session_expiry=60)
    service = Aggregator(bus, TOPICS, SymbolSubscriptions(TOPICS), "a", CollectorRegistry(), lambda: float(OPEN))
    async with outside(broker) as out, running(service):
        await out.feed(("BTC/USD",))
        await out.until(lambda: "BTC/USD" in service._engine.series)
        await out.publish(TOPICS.raw("BTC/USD"), b"{broken")
        await out.until(lambda: any(m.topic == TOPICS.dead_letter("aggregator") for m in out.seen))
        bus.responds.set()
        await start_symbol(out, service)


async def test_malformed_message_becomes_a_dead_letter_and_the_rest_continues():
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        await out.publish(TOPICS.raw("BTC/USD"), b"{broken")
        other = candle("ETH/USD", OPEN, at=OPEN + 5.0)
        await out.publish(TOPICS.raw("BTC/USD"), encode_candle(other))
        future = candle("BTC/USD", OPEN + 6000, at=OPEN + 5.0)
        await out.publish(TOPICS.raw("BTC/USD"), encode_candle(future))
        await out.watermark(OPEN + 61)
        await out.until(lambda: any(c.closed and c.open_time == OPEN for c in out.candles()))
        letters = [decode_dead_letter(m.payload) for m in out.seen if "/dead-letter/" in m.topic]
        assert [letter.topic for letter in letters] == [TOPICS.raw("BTC/USD")] * 3
        assert letters[0].payload == "{broken"
        assert "expected the payload of" in letters[1].reason
        assert "expected a minute that had begun" in letters[2].reason


async def test_tick_is_acknowledged_only_when_its_correction_is_with_the_broker():
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        await out.watermark(OPEN + 61)
        await out.until(lambda: any(c.closed and c.open_time == OPEN for c in out.candles()))
        late = encode_candle(candle("BTC/USD", OPEN, at=OPEN + 62.0, trades=7))
        await out.publish(TOPICS.raw("BTC/USD"), late)
        service._bus.drop()  # whatever was not acknowledged comes again
        await out.until(lambda: any(c.trades == 7 and c.revision == 1 for c in out.candles()))
        assert {c.revision for c in out.candles() if c.trades == 7} == {1}


async def test_symbols_are_divided_and_taken_over():
    broker = MemoryBroker()
    one, two = aggregator(broker, "one"), aggregator(broker, "two")
    async with outside(broker) as out, running(one):
        await out.feed()
        await out.until(lambda: set(one._engine.series) == set(SYMBOLS))
        async with running(two):
            await out.until(lambda: len(two._engine.series) > 0)
            await out.until(lambda: not one._engine.series.keys() & two._engine.series.keys())
            assert one._engine.series.keys() | two._engine.series.keys() == set(SYMBOLS)
        await out.until(lambda: set(one._engine.series) == set(SYMBOLS))
        statuses = [decode_status(m.payload) for m in out.seen if m.topic == TOPICS.status("aggregator", "one")]
        assert sorted(SYMBOLS) in [status.details.get("symbols") for status in statuses]


async def test_restarted_aggregator_fills_what_was_missed_while_it_was_away():
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out:
        async with running(service):
            await start_symbol(out, service)
            await out.watermark(OPEN + 61)
            await out.until(lambda: any(c.closed and c.open_time == OPEN for c in out.candles()))
        again = aggregator(broker)
        later = OPEN + 3600
        async with running(again):
            await out.until(lambda: "BTC/USD" in again._engine.series)
            await out.watermark(later + 10.0)
            await out.until(lambda: len([m for m in out.seen if m.topic == TOPICS.seed_requests()]) == 2)
            await out.seed("BTC/USD", later + 12.0)
            await out.watermark(later + 61.0)
            await out.until(lambda: any(m.topic == TOPICS.history_requests() for m in out.seen))
            [request, *_] = [m for m in out.seen if m.topic == TOPICS.history_requests()]
            assert b'"1m"' in request.payload
            history = History("BTC/USD", Timeframe.M1, Source.REST, Range(OPEN - 300, later), ())
            await out.publish(TOPICS.history("BTC/USD", Timeframe.M1), encode_history(history))

            def closed_minutes() -> set[int]:
                return {c.open_time for c in out.candles() if c.closed and c.timeframe is Timeframe.M1}

            await out.until(lambda: set(range(OPEN, later + 60, 60)) <= closed_minutes())


async def test_reconnect_discards_the_coverage_and_republishes_recent_candles():
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        await out.watermark(OPEN + 61)
        await out.until(lambda: any(c.closed and c.open_time == OPEN for c in out.candles()))
        await out.until(lambda: any(not c.closed and c.open_time == OPEN + 60 for c in out.candles()))
        seen = len(out.seen)
        service._bus.drop()  # the session is kept, and yet the broker may have lost what came before
        since = lambda: [decode_candle(m.payload) for m in out.seen[seen:] if "/candles/" in m.topic]  # noqa: E731
        await out.until(lambda: any(c.closed and c.open_time == OPEN for c in since()))
        await out.until(lambda: {c.timeframe for c in since() if not c.closed} == set(TIMEFRAMES))
        await out.watermark(OPEN + 70)
        await out.watermark(OPEN + 72)
        await out.until(lambda: any(m.topic == TOPICS.history_requests() for m in out.seen))
        assert not any(c.closed and c.open_time == OPEN + 60 for c in out.candles())


async def test_correction_of_an_older_candle_leaves_the_newest_one_retained():
    broker = MemoryBroker()
    service = aggregator(broker)
    topic = TOPICS.candles("BTC/USD", Timeframe.M1)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        await out.watermark(OPEN + 121)
        await out.until(lambda: any(c.closed and c.open_time == OPEN + 60 for c in out.candles()))
        late = candle("BTC/USD", OPEN, at=OPEN + 122.0, trades=7)
        await out.publish(TOPICS.raw("BTC/USD"), encode_candle(late))
        await out.until(lambda: any(c.revision == 1 and c.open_time == OPEN for c in out.candles()))
        assert decode_candle(broker.retained[topic]).open_time > OPEN


async def test_status_has_owned_since_and_missing():
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        await out.watermark(OPEN + 61)
        await out.until(lambda: any(c.closed and c.open_time == OPEN for c in out.candles()))
        out.at += 60
        await out.watermark(OPEN + 130)
        await out.watermark(OPEN + 190)

        def details() -> dict:
            status = broker.retained.get(TOPICS.status("aggregator", "a"))
            return decode_status(status).details if status else {}

        await out.until(lambda: details().get("missing"))
        assert details()["owned_since"] == {"BTC/USD": "2023-11-16T00:00:00Z"}
        [gap] = details()["missing"]
        assert (gap["symbol"], gap["timeframe"], gap["lost"]) == ("BTC/USD", "1m", False)


def numbers(out: Outside) -> list[tuple[str, int]]:
    """Run and number of each closed candle, in the order of publication."""
    closed = [m for m in out.seen if "/candles/" in m.topic and not m.retain and m.qos]
    return [(n.run, n.number) for m in closed if (n := numbered(m.properties))]


async def test_closed_candles_of_a_symbol_are_numbered_and_forming_ones_are_not():
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        await out.watermark(OPEN + 70)
        await out.until(lambda: any(not c.closed and c.open_time == OPEN + 60 for c in out.candles()))
        assert len(numbers(out)) > 7
        (run,) = {run for run, _ in numbers(out)}
        assert numbers(out) == [(run, number) for number in range(1, len(numbers(out)) + 1)]
        assert all(m.properties for m in out.seen if "/candles/" in m.topic and decode_candle(m.payload).closed)
        assert not any(m.properties for m in out.seen if "/candles/" in m.topic and not decode_candle(m.payload).closed)


async def test_republished_candles_end_with_the_request_id():
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        await out.watermark(OPEN + 130)
        await out.until(lambda: any(c.closed and c.open_time == OPEN + 60 for c in out.candles()))
        published = [c for c in out.candles() if c.closed]
        out.seen.clear()
        newest = max(c.at for c in published)
        for symbols in (("ETH/USD",), ("BTC/USD",)):
            request = RepublishRequest(symbols, newest, newest + 10)
            delivery = await out.bus.publish(
                TOPICS.republish_requests(), encode_republish_request(request), properties={REQUEST: "r1"}
            )
            await delivery
        await out.until(lambda: any(request_of(m.properties) == "r1" for m in out.seen if "/candles/" in m.topic))
        again = [m for m in out.seen if "/candles/" in m.topic and decode_candle(m.payload).closed]
        assert [decode_candle(m.payload) for m in again] == [c for c in published if c.at == newest]
        assert [request_of(m.properties) for m in again] == [None] * (len(again) - 1) + ["r1"]
        assert numbers(out)[0][1] == len(published) + 1


async def test_minutes_close_during_a_flood_of_republish_requests_which_all_have_a_response(monkeypatch):
    monkeypatch.setattr("aggregator.service._ROUND_PAUSE_SECONDS", 0.01)
    broker = MemoryBroker()
    # With few unacknowledged messages at a time, a request that waits must not block those of the minute.
    bus = MemoryBus(broker, client_id="a", session_expiry=60, inbound_limit=20)
    service = Aggregator(bus, TOPICS, SymbolSubscriptions(TOPICS), "a", CollectorRegistry(), lambda: float(OPEN))
    symbols = ("BTC/USD", "ETH/USD")

    def closed(open_time: int) -> set[str]:
        found = [c for c in out.candles() if c.closed and c.timeframe is Timeframe.M1 and c.open_time == open_time]
        return {c.symbol for c in found}

    def answered(name: str) -> set[str]:
        named = [m for m in out.seen if request_of(m.properties) == name and "/candles/" in m.topic]
        return {decode_candle(m.payload).symbol for m in named}

    async with outside(broker) as out, running(service):
        await start_symbol(out, service, symbols, windows=10)
        await out.watermark(OPEN + 61)
        await out.until(lambda: closed(OPEN) == set(symbols))
        remembered = service._engine.republish(symbols, 0.0, OPEN + 1e6)
        before = len(out.seen)
        flood = encode_republish_request(RepublishRequest(symbols, 0.0, OPEN + 1e6))
        for number in range(4000):
            properties = {REQUEST: f"r{number}"} if number % 1000 == 999 else {}
            await out.bus.publish(TOPICS.republish_requests(), flood, properties=properties)
        await out.watermark(OPEN + 121)
        await out.until(lambda: closed(OPEN + 60) == set(symbols))
        names = [f"r{number}" for number in range(999, 4000, 1000)]
        await out.until(lambda: all(answered(name) == set(symbols) for name in names))
        await out.until(lambda: not service._republishing)
        republished = [decode_candle(m.payload) for m in out.seen[before:] if "/candles/" in m.topic]
        assert set(remembered) <= set(republished)
        assert len(republished) < 4000
        for symbol in symbols:
            ours = [m for m in out.seen if numbered(m.properties) and decode_candle(m.payload).symbol == symbol]
            assert [numbered(m.properties).number for m in ours] == list(range(1, len(ours) + 1))
            retained = decode_candle(broker.retained[TOPICS.candles(symbol, Timeframe.M1)])
            assert retained.open_time >= OPEN + 60


async def test_malformed_republish_request_becomes_a_dead_letter():
    broker = MemoryBroker()
    async with outside(broker) as out, running(aggregator(broker)):
        await out.until(lambda: out.topics("status"))
        for payload in (
            b"{",
            b'{"symbols": ["BTC/USD"], "from": "2024-01-02T00:00:00Z", "to": "2024-01-01T00:00:00Z"}',
        ):
            await out.publish(TOPICS.republish_requests(), payload)
        await out.until(lambda: len(out.topics("dead-letter")) == 2)


async def test_a_minute_whose_updates_the_broker_drops_is_a_gap_and_after_seconds_it_is_not_ready():
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        broker.drops = lambda client_id, topic: client_id.startswith("a-") and "/raw/" in topic
        for second in range(20, 26):
            assert service.health().ready
            tick = candle("BTC/USD", OPEN, at=OPEN + second, trades=second)
            await out.publish(TOPICS.raw("BTC/USD"), encode_candle(tick))
            await out.watermark(OPEN + second, {OPEN: {"BTC/USD": second}})
        await out.until(lambda: not service.health().ready)
        assert (
            "updates: 1 symbols whose updates do not all arrive from the gateway: BTC/USD" in service.health().problems
        )
        await out.watermark(OPEN + 61, {OPEN: {"BTC/USD": 25}})
        await out.until(lambda: "BTC/USD" in service._engine.gaps())
        await out.watermark(OPEN + 121)
        await out.until(lambda: TOPICS.history_requests() in [message.topic for message in out.seen])
        requests = [decode_history_request(m.payload) for m in out.seen if m.topic == TOPICS.history_requests()]
        assert not any(c.closed and c.timeframe is Timeframe.M1 and c.open_time == OPEN for c in out.candles())
        assert {request.symbols for request in requests} == {("BTC/USD",)}


async def test_an_aggregator_is_not_ready_before_its_first_seeds_and_a_symbol_gained_later_has_fifteen_seconds():
    broker, now = MemoryBroker(), [float(OPEN)]
    service = aggregator(broker, clock=lambda: now[0])
    async with outside(broker) as out, running(service):
        await out.feed(("BTC/USD",))
        await out.until(lambda: "BTC/USD" in service._engine.series)
        assert "seeds: 0 of 1 symbols have their seed" in service.health().problems
        await start_symbol(out, service)
        await out.until(lambda: service.health().ready)
        now[0] += 61
        await out.feed(("BTC/USD", "NEW/USD"))
        await out.until(lambda: "NEW/USD" in service._owned_since)
        assert service.health().ready
        now[0] += 16
        assert service.health().problems == ["seeds: 1 of 2 symbols have their seed"]


async def test_an_aggregator_that_no_longer_gets_the_watermarks_of_a_live_feed_is_not_ready(monkeypatch):
    monkeypatch.setattr("aggregator.service._SILENT_SECONDS", 0.5)
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        silent = "watermarks: live feeds whose watermarks do not arrive: f"
        await out.until(lambda: silent in service.health().problems)
        assert not service.health().ready
        await out.watermark(OPEN + 14)
        await out.until(lambda: silent not in service.health().problems)
        # Of a feed that is down none is expected.
        await out.publish(TOPICS.feed("f"), encode_feed_state(FeedState("f", FeedCondition.DOWN, OPEN - 5.0, ())))
        await out.until(lambda: not service._watermarks)


async def test_aggregator_with_unfilled_gaps_is_not_ready(monkeypatch):
    monkeypatch.setattr("aggregator.service._UNFILLED_SECONDS", 0.5)
    monkeypatch.setattr("aggregator.service._LOOK_SECONDS", 0.1)
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        await out.until(lambda: service.health().ready)
        out.at += 60  # watermarks were lost
        await out.watermark(OPEN + 130)
        await out.watermark(OPEN + 190)
        await out.until(lambda: not service.health().ready)
        [problem] = service.health().problems
        assert problem.startswith("gaps: 1 symbols have gaps, and none of it was filled for")
        requests = [decode_history_request(m.payload) for m in out.seen if m.topic == TOPICS.history_requests()]
        assert requests
        for request in requests:
            history = History("BTC/USD", request.timeframe, Source.REST, request.range, ())
            await out.publish(TOPICS.history("BTC/USD", request.timeframe), encode_history(history))
        await out.until(lambda: service.health().ready)


async def test_an_aggregator_whose_candles_the_broker_refuses_is_not_ready():
    broker = MemoryBroker()
    service = aggregator(broker)
    async with outside(broker) as out, running(service):
        await start_symbol(out, service)
        broker.refuses = lambda topic: "/candles/" in topic
        await out.publish(TOPICS.raw("BTC/USD"), encode_candle(candle("BTC/USD", OPEN, at=OPEN + 20.0)))
        await out.watermark(OPEN + 61)
        await out.until(lambda: not service.health().ready)
        [problem] = [text for text in service.health().problems if text.startswith("broker")]
        assert problem.startswith("broker: the broker refuses messages on ingress/candles/kraken/BTC-USD/")
