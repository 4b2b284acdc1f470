"""Seeds from the store, for symbols that no gateway follows."""

import asyncio

import pytest
from memory_broker import MemoryBus
from msgspec.structs import replace

from admin_api.reconciler import seeds
from ingress_common.bus import Message
from ingress_common.model import GRACE, History, SeedRequest, Source
from ingress_common.payloads import decode_history, encode_seed_request
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_store import SqliteStore

OLD = "OLDx/USD"
M1 = Timeframe.M1


@pytest.fixture
async def answers(world):
    """The history batches on the bus."""
    found: list[History] = []

    async def listen(bus):
        async for event in bus.events():
            if isinstance(event, Message):
                found.append(decode_history(event.payload))
                event.ack()

    async with MemoryBus(world.broker, client_id="listener") as bus:
        await bus.subscribe(world.topics.history("+", "+"))
        listening = asyncio.create_task(listen(bus))
        yield found
        listening.cancel()


async def gateway(world, *owned, patterns=("*/USD",), instance="g"):
    since = dict.fromkeys(owned, rfc3339(world.now))
    await world.status("kraken-gateway", instance, patterns=list(patterns), owned_since=since)


async def request_seeds(world, *symbols):
    await world.send(world.topics.seed_requests(), encode_seed_request(SeedRequest(symbols)), retain=False)


async def store(world, candles, ticks=()):
    async with SqliteStore(world.path, clock=lambda: world.now) as opened:
        await opened.write(list(candles), list(ticks))


def count(world, outcome):
    return world.registry.get_sample_value("ingress_store_seeds_total", {"outcome": outcome}) or 0


async def test_seed_of_an_ended_symbol_has_stored_candles_and_minutes_of_later_ticks(
    world, candle, answers, monkeypatch
):
    monkeypatch.setattr(seeds, "TICKS_AT_ONCE", 3)
    end = M1.floor(world.now) - 300
    minutes = [candle(symbol=OLD, open_time=end - 60 * n, complete=n != 4) for n in range(1, 31)]
    higher = [candle(symbol=OLD, timeframe=Timeframe.M5, open_time=Timeframe.M5.floor(end) - 300)]
    # An update may arrive in the minute after its own, and an older one after a newer one.
    came = [(0, 1, 1.0), (0, 9, 62.0), (0, 5, 62.1), (120, 2, 130.0), (-60, 7, 0.5)]
    ticks = [candle(symbol=OLD, open_time=end + open_, trades=n, closed=False, at=end + at) for open_, n, at in came]
    async with world.running():
        await store(world, [*minutes, *higher], ticks)
        await gateway(world, "BTC/USD")
        await request_seeds(world, OLD, "NEVER/USD")
        await world.until(lambda: len(answers) == len(TIMEFRAMES) and count(world, "unknown"))
    batches = {batch.timeframe: batch for batch in answers}
    assert {batch.symbol for batch in answers} == {OLD}
    assert {batch.source for batch in answers} == {Source.SNAPSHOT}
    first = batches[M1]
    # Up to the stored candle that is not complete.
    assert (first.covers.start, first.covers.end) == (end - 180, end + GRACE)
    rows = [(c.open_time, c.trades) for c in first.candles]
    assert rows[: seeds.CANDLES] == [(end - 60 * n, minutes[0].trades) for n in range(seeds.CANDLES, 0, -1)]
    assert rows[seeds.CANDLES :] == [(end, 9), (end + 120, 2)]
    assert [c.open_time for c in batches[Timeframe.M5].candles] == [higher[0].open_time]
    assert batches[Timeframe.W1].candles == ()


async def test_seed_of_a_followed_symbol_is_left_to_its_gateway(world, candle, answers):
    async with world.running():
        await store(world, [candle(symbol=symbol) for symbol in (OLD, "FED/USD", "OWNED/USD")])
        await gateway(world, "OWNED/USD")
        await world.feed("f2", ["FED/USD"])
        await request_seeds(world, "OWNED/USD", "FED/USD", OLD)
        await world.until(lambda: len(answers) == len(TIMEFRAMES))
        assert {batch.symbol for batch in answers} == {OLD}
        assert count(world, "published") == 1


async def test_no_seed_is_sent_while_a_gateway_may_still_report_the_symbol(world, candle, answers):
    async with world.running():
        await store(world, [candle(symbol=OLD)])
        # No gateway yet, then one that does not know its symbols.
        await request_seeds(world, OLD)
        await gateway(world, "BTC/USD")
        await gateway(world, patterns=(), instance="g2")
        await request_seeds(world, OLD)
        # It is later in the order of messages, so those were taken in.
        await gateway(world, OLD, instance="g2")
        await world.until(lambda: len(texts(world, "g2")) == 1)
        assert count(world, "published") == 0
        await gateway(world, instance="g2")
        await world.until(lambda: not texts(world, "g2"))
        await request_seeds(world, OLD)
        await world.until(lambda: count(world, "published"))
    assert len(answers) == len(TIMEFRAMES)


def texts(world, instance):
    return world.service.state.instances["kraken-gateway", instance].status.details["owned_since"]


async def test_seed_requests_for_a_whole_exchange_are_bounded(world, candle, answers):
    symbols = [f"A{n}/USD" for n in range(1_449)]
    async with world.running():
        await store(world, [replace(candle(), symbol=symbol) for symbol in symbols])
        await gateway(world, "BTC/USD")
        await request_seeds(world, *symbols)
        await world.until(lambda: count(world, "left-out") == len(symbols) - seeds.MOST_WAITING)
        await world.until(lambda: count(world, "published") == seeds.MOST_WAITING)
        assert world.registry.get_sample_value("ingress_store_seeds_waiting") == 0
    assert len(answers) == seeds.MOST_WAITING * len(TIMEFRAMES)


async def test_retained_request_becomes_a_dead_letter(world):
    await world.send(world.topics.seed_requests(), encode_seed_request(SeedRequest((OLD,))))
    async with world.running():
        await world.until(lambda: "admin-api" in world.service.state.dead_letters)
