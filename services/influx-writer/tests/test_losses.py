"""What the broker drops is found by the numbers and requested until it arrives."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from influx_writer.losses import SequenceGaps
from ingress_common.payloads import decode_status
from ingress_common.sequence import Numbered
from ingress_common.timeframes import Timeframe

SYMBOL = "BTC/USD"


async def test_candles_dropped_by_the_broker_are_requested_and_stored(world, candle):
    writer, _ = world.writer()
    rows = [candle(-n) for n in range(9, 0, -1)]
    async with world.running(writer):
        await world.send(rows[0])
        # The response to its request at the start.
        await world.respond(*world.last_request)
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle") == 2)
        await world.send(*rows[1:3])
        world.lose(*rows[3:8])
        await world.send(rows[8])
        await world.until(lambda: world.metric("ingress_writer_missing_candles") == 5)
        await world.until(lambda: world.metric("ingress_writer_missing_candles") == 0)
    assert await world.stored() == rows
    # Of the one symbol, and no further back than what came before.
    request = world.requests[-1]
    assert request.symbols == (SYMBOL,)
    assert rows[2].at - 2 < request.start <= rows[2].at
    assert rows[8].at <= request.end


async def test_new_candle_dropped_before_an_old_one_is_requested(world, candle):
    writer, _ = world.writer()
    rows = [candle(-n, at=world.now - 60.0 * n) for n in range(9, 0, -1)]
    async with world.running(writer):
        await world.send(*rows[:8])
        # The response to its request at the start.
        await world.respond(*world.last_request)
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle") == 16)
        world.lose(rows[8])
        # Somebody had it republished, and it is stored already.
        await world.send(rows[2])
        await world.until(lambda: world.metric("ingress_writer_missing_candles") == 1)
        await world.until(lambda: world.metric("ingress_writer_missing_candles") == 0)
        await world.until(lambda: writer._assignment._republishing.due == [])
    assert await world.stored() == rows


async def test_publisher_received_from_its_first_candle_has_no_gap(world, candle):
    world.responds, world.request_seconds = False, 0.01
    writer, _ = world.writer()
    rows = [candle(-n) for n in range(20, 0, -1)]
    async with world.running(writer):
        await world.send(rows[0])
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle") == 1)
        requests = len(world.requests)
        for position, row in enumerate(rows[1:], 2):
            await world.send(row)
            await world.until(lambda p=position: world.metric("ingress_writer_written_total", kind="candle") == p)
        # Of the other symbol nothing has come.
        assert all(request.symbols == ("ETH/USD",) for request in world.requests[requests:])
    assert await world.stored() == rows


async def test_candles_published_before_the_writer_started_are_requested_until_stored(world, candle):
    world.responds, world.request_seconds = False, 0.1
    rows = [candle(-n) for n in range(4, 0, -1)]
    world.lose(*rows[:2])
    writer, _ = world.writer()
    async with world.running(writer):
        await world.send(rows[2])
        requests = len(world.requests)
        await world.until(lambda: len(world.requests) >= requests + 2)
        world.responds = True
        await world.send(rows[3])
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle") >= 4)
        await world.until(lambda: writer._assignment._republishing.due == [])
    assert await world.stored() == rows


async def test_request_for_missing_candles_is_repeated_and_shown_until_they_arrive(world, candle):
    world.responds, world.request_seconds = False, 0.1
    writer, _ = world.writer()
    rows = [candle(-n) for n in range(4, 0, -1)]
    async with world.running(writer):
        await world.send(rows[0])
        world.lose(*rows[1:3])
        requests = len(world.requests)
        await world.send(rows[3])
        await world.until(lambda: len(world.requests) >= requests + 3)
        await world.until(lambda: status(world)["missing_candles"] == 2)
        details = status(world)
        assert datetime.fromisoformat(details["missing_since"]).astimezone(UTC).timestamp() == world.now
        world.responds = True
        await world.until(lambda: world.metric("ingress_writer_missing_candles") == 0)
    assert await world.stored() == rows


def status(world):
    return decode_status(world.broker.retained[world.topics.status("influx-writer", "w1")]).details


async def test_partly_dropped_response_is_requested_once_more(world, candle):
    world.request_seconds = 0.2
    writer, _ = world.writer()
    rows = [candle(-n) for n in range(6, 0, -1)]
    async with world.running(writer):
        await world.send(rows[0])
        world.lose(*rows[1:5])
        world.drops = 2
        await world.send(rows[5])
        await world.until(lambda: world.drops == 0 and world.metric("ingress_writer_missing_candles") == 0)
    assert await world.stored() == rows


async def test_a_new_publisher_and_repeated_messages_are_no_losses(world, candle):
    writer, bus = world.writer()
    rows = [candle(-n) for n in range(12, 0, -1)]
    async with world.running(writer):
        await world.send(*rows[:4])
        world.cut(bus)
        await world.send(*rows[4:8])
        world.numbering.forget([SYMBOL])
        await world.send(*rows[8:])
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle") >= len(rows))
        assert world.metric("ingress_writer_missing_candles") == 0
    assert await world.stored() == rows


async def test_the_first_candles_of_a_new_publisher_that_were_dropped_are_missed(world, candle):
    writer, _ = world.writer()
    rows = [candle(-n) for n in range(6, 0, -1)]
    async with world.running(writer):
        await world.send(*rows[:2])
        world.numbering.forget([SYMBOL])
        world.lose(*rows[2:5])
        await world.send(rows[5])
        await world.until(lambda: world.metric("ingress_writer_received_total", kind="candle") >= 6)
        await world.until(lambda: world.metric("ingress_writer_missing_candles") == 0)
    assert await world.stored() == rows


async def test_losses_of_one_timeframe_are_seen_in_the_next_candle_of_any(world, candle):
    writer, _ = world.writer()
    hour, minute = candle(timeframe=Timeframe.H1), candle()
    async with world.running(writer):
        await world.send(candle(-2))
        world.lose(hour)
        await world.send(minute)
        await world.until(lambda: world.metric("ingress_writer_missing_candles") == 1)
        await world.until(lambda: world.metric("ingress_writer_missing_candles") == 0)
    assert await world.stored(Timeframe.H1) == [hour]


@given(
    runs=st.lists(st.lists(st.booleans(), min_size=1, max_size=30), min_size=1, max_size=3),
    again=st.randoms(use_true_random=False),
)
def test_missing_count_is_exact_in_any_order(runs, again):
    gaps = SequenceGaps()
    missing = 0
    seen_any = False
    for name, came in enumerate(runs):
        numbers = [number for number, here in enumerate(came, 1) if here]
        if not numbers:
            continue
        before = 0 if seen_any else numbers[0] - 1
        seen_any = True
        first, *others = numbers
        gaps.take(SYMBOL, Numbered(f"run {name}", first), 100.0 + first)
        others += again.choices(numbers, k=3)
        again.shuffle(others)
        for number in others:
            gaps.take(SYMBOL, Numbered(f"run {name}", number), 100.0 + number)
        missing += numbers[-1] - before - len(numbers)
        assert gaps.missing == missing
    gaps.filled(SYMBOL)
    assert gaps.missing == 0


def test_gap_starts_after_the_last_received_candle():
    gaps = SequenceGaps()
    assert gaps.take(SYMBOL, Numbered("a", 7), 10.0) is None
    assert gaps.take(SYMBOL, Numbered("a", 8), 11.0) is None
    assert gaps.take(SYMBOL, Numbered("a", 11), 14.0) == 11.0
    assert gaps.take(SYMBOL, Numbered("a", 9), 12.0) is None
    assert gaps.missing == 1
    assert gaps.take("ETH/USD", Numbered("b", 5), 10.0) is None


def test_implausible_sequence_number_is_ignored():
    gaps = SequenceGaps()
    gaps.take(SYMBOL, Numbered("a", 7), 10.0)
    assert gaps.take(SYMBOL, Numbered("a", 10**15), 11.0) is None
    assert gaps.missing == 0
