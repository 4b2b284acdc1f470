"""The stores that the behavioural suite runs on, and candles to put into them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ingress_common.model import Candle, Source
from ingress_common.timeframes import Timeframe
from ingress_store import CandleStore, SqliteStore

NOW = 1_700_000_000.0


@dataclass
class World:
    """One adapter with a fresh place to store things in.

    `open` opens a store on that place, each time a new one. `exact`: numbers come back with the digits they went in
    with, and the source, `at` and completeness come back at all; otherwise the fields of the contract come back, and
    numbers within 1e-9.
    """

    open: Callable[[], AbstractAsyncContextManager[CandleStore]]
    exact: bool
    now: float = NOW

    def same(self, got: Candle, expected: Candle) -> bool:
        if self.exact:
            return got == expected and str(got.volume) == str(expected.volume) and str(got.open) == str(expected.open)
        numbers = ("open", "high", "low", "close", "volume", "vwap")
        others = ("exchange", "symbol", "timeframe", "open_time", "trades", "closed", "infilled", "revision")
        return all(getattr(got, name) == getattr(expected, name) for name in others) and all(
            float(getattr(got, name)) == pytest.approx(float(getattr(expected, name)), rel=1e-9) for name in numbers
        )

    def assert_same(self, got: list[Candle], expected: list[Candle]) -> None:
        assert len(got) == len(expected), f"{got}\n{expected}"
        for one, other in zip(got, expected, strict=True):
            assert self.same(one, other), f"{one}\n{other}"


def _sqlite(tmp_path: Path) -> World:
    path = tmp_path / "candles.db"
    world = World(open=lambda: SqliteStore(path, clock=lambda: world.now), exact=True)
    return world


ADAPTERS: dict[str, Callable[[Path], World]] = {"sqlite": _sqlite}


@pytest.fixture(params=sorted(ADAPTERS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return ADAPTERS[request.param](tmp_path)


@pytest.fixture
async def store(world: World) -> AsyncIterator[CandleStore]:
    async with world.open() as store:
        await store.bootstrap()
        yield store


@pytest.fixture
def candle() -> Callable[..., Candle]:
    """Makes a closed 1m candle of BTC/USD, with what is given changed."""

    def make(minute: int = 0, **changes: Any) -> Candle:
        timeframe = changes.get("timeframe", Timeframe.M1)
        open_time = timeframe.floor(NOW) + minute * timeframe.seconds
        plain = Candle(
            symbol="BTC/USD",
            timeframe=timeframe,
            open_time=open_time,
            open=Decimal("51600.10"),
            high=Decimal("51610.0"),
            low=Decimal("51600.1"),
            close=Decimal("51605.2"),
            volume=Decimal("1.20480000"),
            vwap=Decimal("51604.3"),
            trades=17,
            closed=True,
            infilled=False,
            complete=True,
            revision=0,
            source=Source.ROLLUP,
            at=open_time + timeframe.seconds + 1.104211,
        )
        return replace(plain, **changes)

    return make
