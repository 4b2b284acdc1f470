"""Any order, any repetition: the stored row is the same."""

import asyncio
import itertools
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ingress_common.model import Candle, Source
from ingress_common.timeframes import Timeframe
from ingress_store import SqliteStore, replaces

PRICE = Decimal("51600.10")
CLOSED = Candle(
    symbol="BTC/USD",
    timeframe=Timeframe.M1,
    open_time=1_700_000_040,
    open=PRICE,
    high=PRICE,
    low=PRICE,
    close=PRICE,
    volume=PRICE,
    vwap=PRICE,
    trades=7,
    closed=True,
    infilled=False,
    complete=True,
    revision=0,
    source=Source.WS,
    at=1_700_000_101.0,
)


def _history(forming: int, closed: int):
    """Messages of one candle as an aggregator sends them: forming states, then the closed one and its corrections."""
    base = CLOSED
    states = [replace(base, closed=False, trades=n, at=base.at - 30 + n / 2) for n in range(forming)]
    corrections = [replace(base, trades=100 + n, revision=n, at=base.at + n // 2) for n in range(closed)]
    return states + corrections


@given(data=st.data(), forming=st.integers(0, 4), closed=st.integers(0, 4))
@settings(max_examples=3 * settings.default.max_examples)  # fewer with the profile of `make test-fast`
def test_ordering_keeps_the_last_message_in_any_order(data, forming, closed):
    messages = _history(forming, closed)
    if not messages:
        return
    sent = data.draw(st.permutations(messages + data.draw(st.lists(st.sampled_from(messages), max_size=6))))
    kept = sent[0]
    for message in sent[1:]:
        kept = message if replaces(message, kept) else kept
    assert kept == messages[-1]


@given(data=st.data(), forming=st.integers(0, 3), closed=st.integers(0, 3))
@settings(max_examples=settings.default.max_examples // 4, deadline=None)
def test_sqlite_keeps_the_same_row_as_the_ordering(data, forming, closed):
    messages = _history(forming, closed)
    if not messages:
        return
    sent = data.draw(st.permutations(messages + data.draw(st.lists(st.sampled_from(messages), max_size=4))))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent)), max_size=3)) | {0, len(sent)})

    async def stored():
        with TemporaryDirectory() as directory:
            async with SqliteStore(Path(directory) / "c.db", clock=lambda: 0.0) as store:
                for start, end in itertools.pairwise(cuts):
                    await store.write(sent[start:end], [])
                found = await store.candles("BTC/USD", Timeframe.M1, limit=10)
                return found or [await store.forming("BTC/USD", Timeframe.M1)]

    assert asyncio.run(stored()) == [messages[-1]]
