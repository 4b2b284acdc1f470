"""What leaves for the bus: batches that fit, and what the broker refuses all the same."""

import asyncio
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from ingress_common.bus import BusError
from ingress_common.model import Candle, History, Range, Source
from ingress_common.payloads import decode_dead_letter, decode_history
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.publisher import Publisher, halves


class Bus:
    """A broker that announces `maximum_packet` and refuses what `refuses` selects."""

    def __init__(self, maximum_packet: int | None = None, refuses: str = "nothing") -> None:
        self.maximum_packet = maximum_packet
        self.refuses = refuses
        self.taken: list[tuple[str, bytes]] = []

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, properties=None):
        delivery = asyncio.get_running_loop().create_future()
        if self.refuses in topic:
            delivery.set_exception(BusError("too large"))
        else:
            self.taken.append((topic, payload))
            delivery.set_result(None)
        return delivery


def batch(count: int, start: int = 0) -> History:
    one = Decimal(1)
    candles = tuple(
        Candle(
            "A/B", Timeframe.M1, start + 60 * n, one, one, one, one, one, one, 1, True, False, True, 0, Source.REST, 1e6
        )
        for n in range(count)
    )
    return History("A/B", Timeframe.M1, Source.REST, Range(float(start), start + 60.0 * max(count, 1)), candles)


@given(st.integers(2, 60))
def test_halves_cover_the_same_time_without_a_gap_and_have_the_same_candles(count):
    history = batch(count)
    first, second = halves(history)
    assert (first.covers.start, second.covers.end) == (history.covers.start, history.covers.end)
    assert first.covers.end == second.covers.start
    assert first.candles + second.candles == history.candles
    for part in (first, second):
        assert all(part.covers.start <= candle.open_time < part.covers.end for candle in part.candles)


def test_batch_of_one_candle_cannot_be_cut():
    assert halves(batch(1)) is None
    assert halves(batch(0)) is None


@pytest.mark.parametrize("limit", [None, 100_000, 5_000, 1_500])
async def test_batch_is_split_to_the_brokers_packet_size(limit):
    bus = Bus(limit)
    await Publisher(bus, Topics(), GatewayMetrics(CollectorRegistry()), "kraken").history(batch(100))
    assert all(len(payload) <= (limit or 10**6) for _, payload in bus.taken)
    parts = [decode_history(payload) for _, payload in bus.taken]
    assert [candle.open_time for part in parts for candle in part.candles] == [60 * n for n in range(100)]
    assert parts[0].covers.start == 0
    assert all(a.covers.end == b.covers.start for a, b in pairwise(parts))


async def test_refused_batch_becomes_a_dead_letter_and_is_counted():
    registry = CollectorRegistry()
    bus = Bus(refuses="history")
    publisher = Publisher(bus, Topics(), GatewayMetrics(registry), "kraken")
    await publisher.history(batch(3))
    await asyncio.sleep(0)
    await publisher.dead_letter_refused()
    ((topic, payload),) = bus.taken
    assert topic == "ingress/dead-letter/kraken-gateway"
    assert decode_dead_letter(payload).topic == "ingress/history/kraken/A-B/1m"
    assert registry.get_sample_value("ingress_gateway_messages_refused_total") == 1
