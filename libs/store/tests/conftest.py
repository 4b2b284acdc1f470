"""The stores that the behavioural suite runs on, and candles to put into them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from example import CANDLE
from ingress_common.decimals import plain
from ingress_common.model import Candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import CandleStore, InfluxAccess, InfluxStore, Retention, SqliteStore

NOW = 1_700_000_000.0
FOREVER = Retention(dict.fromkeys(TIMEFRAMES), ticks=None)


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
            digits = [(plain(c.open), plain(c.volume)) for c in (got, expected)]
            return got == expected and digits[0] == digits[1]
        numbers = ("open", "high", "low", "close", "volume", "vwap")
        others = ("exchange", "symbol", "timeframe", "open_time", "trades", "closed", "infilled", "revision")
        return all(getattr(got, name) == getattr(expected, name) for name in others) and all(
            float(getattr(got, name)) == pytest.approx(float(getattr(expected, name)), rel=1e-9) for name in numbers
        )

    def assert_same(self, got: list[Candle], expected: list[Candle]) -> None:
        assert len(got) == len(expected), f"{got}\n{expected}"
        for one, other in zip(got, expected, strict=True):
            assert self.same(one, other), f"{one}\n{other}"


def _sqlite(request: pytest.FixtureRequest) -> World:
    path = request.getfixturevalue("tmp_path") / "candles.db"
    world = World(open=lambda: SqliteStore(path, clock=lambda: world.now), exact=True)
    return world


def _influx(request: pytest.FixtureRequest) -> World:
    place = request.getfixturevalue("influx_place")
    access = InfluxAccess(f"test-{uuid4().hex[:12]}", place.token)
    return World(
        open=lambda: InfluxStore(place.store_url, access, retention=FOREVER),
        exact=False,
    )


ADAPTERS: dict[str, Callable[[pytest.FixtureRequest], World]] = {"influx": _influx, "sqlite": _sqlite}


@pytest.fixture(params=sorted(ADAPTERS))
def world(request: pytest.FixtureRequest) -> World:
    return ADAPTERS[request.param](request)


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
        at = open_time + timeframe.seconds + 1.104211
        plain = replace(CANDLE, timeframe=timeframe, open_time=open_time, at=at)
        return replace(plain, **changes)

    return make
