"""A synthetic market: the same trades in every run, as the candles that Kraken would send."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any

from ingress_common.model import Candle, History, Range, Source
from ingress_common.timeframes import TIMEFRAMES, Timeframe

OPENS = 1_700_092_800 - 1800
"""Start of runs (unix seconds): half an hour before a week opens, so that an hour crosses every kind of boundary."""

SHARE = 0.8
"""The share of minutes with trades; the others are infilled."""

_BEFORE = 11 * 7 * 1440
_AFTER = 75 * 1440
_SNAPSHOT_ROWS = 10
_MINUTE = Timeframe.M1.seconds


@dataclass(frozen=True)
class _State:
    """The trades of a window, in tenths of a price and hundred-millionths of a volume."""

    open_time: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    turnover: int
    trades: int


class Market:
    """The minutes that traded, from eleven weeks before OPENS (for seeds) to 75 days after it."""

    def __init__(self) -> None:
        random = Random(10)
        price = 516_000
        states = []
        for number in range(-_BEFORE, _AFTER):
            if random.random() >= SHARE:
                continue
            prices = [price := max(1000, price + random.randint(-50, 50)) for _ in range(4)]
            volume = random.randint(1, 10**9)
            states.append(
                _State(
                    OPENS + number * _MINUTE,
                    prices[0],
                    max(prices),
                    min(prices),
                    prices[-1],
                    volume,
                    volume * sum(prices) // 4,
                    random.randint(1, 40),
                )
            )
        self._states = states
        self._times = [state.open_time for state in states]

    def minutes(self, symbol: str, start: int, end: int) -> list[Candle]:
        """The last state of each minute that traded and opens in `[start, end)`, as a raw tick."""
        return [_named(symbol, candle) for candle in self._minutes(start, end)]

    def seed(self, symbol: str, now: float) -> list[History]:
        """The snapshots of all timeframes that Kraken gives at `now`: the last ten rows that traded."""
        return [self._snapshot(symbol, timeframe, now) for timeframe in TIMEFRAMES]

    @cache  # noqa: B019 - there is one market, for the whole run
    def _minutes(self, start: int, end: int) -> tuple[Candle, ...]:
        return tuple(
            _candle(Timeframe.M1, state, state.open_time + 59.5, Source.WS) for state in self._states_of(start, end)
        )

    def _snapshot(self, symbol: str, timeframe: Timeframe, now: float) -> History:
        candles = tuple(_named(symbol, candle) for candle in self._last_rows(timeframe, now))
        return History(symbol, timeframe, Source.SNAPSHOT, Range(float(candles[0].open_time), now), candles)

    @cache  # noqa: B019 - there is one market, for the whole run
    def _last_rows(self, timeframe: Timeframe, now: float) -> tuple[Candle, ...]:
        rows: list[Candle] = []
        opens = timeframe.floor(now)
        while len(rows) < _SNAPSHOT_ROWS:
            # The minute that has begun has not traded yet.
            if parts := self._states_of(opens, min(opens + timeframe.seconds, now - _MINUTE)):
                rows.append(_candle(timeframe, _together(opens, parts), now, Source.SNAPSHOT))
            opens -= timeframe.seconds
        return tuple(reversed(rows))

    def _states_of(self, start: float, end: float) -> list[_State]:
        return self._states[bisect_left(self._times, start) : bisect_left(self._times, end)]


def closed_minutes(symbols: Sequence[str], count: int, now: float) -> list[Candle]:
    """The last `count` minutes before `now` (unix seconds) of each symbol as closed candles, minute by minute."""
    first = Timeframe.M1.floor(now) - count * _MINUTE
    traded = market().minutes("", OPENS - 2 * count * _MINUTE, OPENS)[-count:]
    return [
        _closed(symbol, candle, first + number * _MINUTE) for number, candle in enumerate(traded) for symbol in symbols
    ]


def closed_candles(symbols: Sequence[str], windows: Iterable[tuple[Timeframe, int, int]]) -> list[Candle]:
    """A closed candle of each symbol for each window: timeframe, first open time, and the one after the last."""
    some = market().minutes("", OPENS, OPENS + 10 * _MINUTE)[0]
    return [
        _changed(_closed(symbol, some, opens), timeframe=timeframe)
        for timeframe, start, end in windows
        for opens in range(start, end, timeframe.seconds)
        for symbol in symbols
    ]


@cache
def market() -> Market:
    """The market, created once."""
    return Market()


def _together(open_time: int, parts: list[_State]) -> _State:
    return _State(
        open_time,
        parts[0].open,
        max(part.high for part in parts),
        min(part.low for part in parts),
        parts[-1].close,
        sum(part.volume for part in parts),
        sum(part.turnover for part in parts),
        sum(part.trades for part in parts),
    )


def _named(symbol: str, candle: Candle) -> Candle:
    return _changed(candle, symbol=symbol)


def _closed(symbol: str, candle: Candle, opens: int) -> Candle:
    return _changed(candle, symbol=symbol, open_time=opens, closed=True, at=opens + _MINUTE + 1.104211)


def _changed(candle: Candle, **changes: Any) -> Candle:
    return Candle(**{name: getattr(candle, name) for name in Candle.__match_args__} | changes)


def _candle(timeframe: Timeframe, state: _State, at: float, source: Source) -> Candle:
    return Candle(
        symbol="",
        timeframe=timeframe,
        open_time=state.open_time,
        open=Decimal(state.open).scaleb(-1),
        high=Decimal(state.high).scaleb(-1),
        low=Decimal(state.low).scaleb(-1),
        close=Decimal(state.close).scaleb(-1),
        volume=Decimal(state.volume).scaleb(-8),
        vwap=Decimal(state.turnover * 100 // state.volume).scaleb(-3),
        trades=state.trades,
        closed=False,
        infilled=False,
        complete=True,
        revision=0,
        source=source,
        at=at,
    )
