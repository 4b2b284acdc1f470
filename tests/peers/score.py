"""The score of a client: its candles compared with the true trades. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

TOLERANCE = 1e-9
"""Tolerance, because clients return floats and sums of them."""

Candle = tuple[float, float, float, float, float]
"""Open, high, low, close, volume."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A candle from a client at a time (unix seconds); `closed` is None if the client has no such flag."""

    symbol: str
    open_time: int
    candle: Candle
    trades: int | None
    at: float
    closed: bool | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """A symbol's minutes with trades, by open time, including a few before the judged ones."""

    candles: Mapping[int, tuple[Candle, int]]

    def close_before(self, open_time: int) -> float | None:
        """The price of the last trade before a time."""
        earlier = [time for time in self.candles if time < open_time]
        return self.candles[max(earlier)][0][3] if earlier else None


@dataclass(slots=True)
class Score:
    """A client's results for the judged minutes.

    `traded`, `inactive`: numbers of minutes with and without trades. Of the former, `missing` and `wrong`. Of the
    latter, `flat` at the last price, and `invented` otherwise. `delays`: seconds from a minute's end until its candle
    was known to be closed. `early`: candles with trades that were wrong at that time, whatever came later.
    """

    traded: int = 0
    inactive: int = 0
    missing: int = 0
    wrong: int = 0
    early: int = 0
    flat: int = 0
    invented: int = 0
    delays: list[float] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)


def score(observations: Iterable[Observation], truth: Mapping[str, Truth], first: int, end: int) -> Score:
    """Judge the last state of every minute that opens from `first` to before `end`."""
    last: dict[tuple[str, int], Observation] = {}
    closed: dict[tuple[str, int], Observation] = {}
    newest: dict[str, int] = {}
    for seen in observations:
        last[seen.symbol, seen.open_time] = seen
        if seen.closed:
            closed.setdefault((seen.symbol, seen.open_time), seen)
        elif seen.closed is None:
            _close_older(closed, last, newest, seen)
    result = Score()
    for symbol, true in truth.items():
        for open_time in range(first, end, 60):
            _judge(result, last.get((symbol, open_time)), true, symbol, open_time)
            final = closed.get((symbol, open_time))
            if final is not None:
                result.delays.append(final.at - open_time - 60)
                result.early += open_time in true.candles and not _is_true(final, true.candles[open_time])
    return result


def _close_older(
    closed: dict[tuple[str, int], Observation],
    last: Mapping[tuple[str, int], Observation],
    newest: dict[str, int],
    seen: Observation,
) -> None:
    """The time at which a candle is known to be closed: by its flag, or by the arrival of a newer one."""
    before = newest.get(seen.symbol)
    if before is None or seen.open_time > before:
        newest[seen.symbol] = seen.open_time
        for open_time in range(before, seen.open_time, 60) if before is not None else ():
            known = last.get((seen.symbol, open_time))
            if known is not None:
                closed.setdefault((seen.symbol, open_time), replace(known, at=seen.at))


def _judge(result: Score, seen: Observation | None, truth: Truth, symbol: str, open_time: int) -> None:
    true = truth.candles.get(open_time)
    if true is None:
        result.inactive += 1
        close = truth.close_before(open_time)
        if seen is None:
            return
        if close is not None and _near(seen.candle, (close, close, close, close, 0.0)) and not seen.trades:
            result.flat += 1
        else:
            result.invented += 1
            result.examples.append(f"{symbol} {open_time}: no trades, got {seen.candle}")
        return
    result.traded += 1
    candle, trades = true
    if seen is None:
        result.missing += 1
        result.examples.append(f"{symbol} {open_time}: missing, expected {candle}")
    elif not _is_true(seen, (candle, trades)):
        result.wrong += 1
        result.examples.append(f"{symbol} {open_time}: expected {candle} {trades}, got {seen.candle} {seen.trades}")


def _is_true(seen: Observation, true: tuple[Candle, int]) -> bool:
    candle, trades = true
    return _near(seen.candle, candle) and seen.trades in (None, trades)


def _near(candle: Candle, other: Candle) -> bool:
    return all(abs(a - b) <= TOLERANCE * max(1.0, abs(b)) for a, b in zip(candle, other, strict=True))
