"""Replays archive files, Kraken's 1m candles (`time,open,high,low,close,volume,trades`), as trades.

Each candle becomes trades that reproduce it exactly: open, high, low, close, count and volume. Volumes are rounded to 8
decimals, the wire's precision (the files carry float noise of about 1e-9).
"""

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from kraken_simulator.errors import SourceError
from kraken_simulator.pairs import VOLUME_UNITS, SimulatedPair
from kraken_simulator.sources.placement import shift_to_now
from kraken_simulator.sources.port import StreamSource
from kraken_simulator.tape import TapeTrade
from kraken_simulator.text import NANOS, decimals_of, units

_WEEK = 604_800
_MINUTE = 60
_FUTURE = 8 * _WEEK
_HISTORY_TRADES = 500_000
_COLUMNS = 7


class ArchiveCandle(NamedTuple):
    """A candle of the file: unix seconds, prices and volume in units of their last decimal, number of trades."""

    time: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int


def archive_source(
    symbol: str, path: Path, *, now: float, play_from: float | None = None, history_weeks: int = 12
) -> StreamSource:
    """Return the source of an archive file, shifted to `now`. SourceError names an invalid line.

    It includes `history_weeks` before now (at most half a million trades) and eight weeks after.
    """
    lines = _lines(path)
    first, last = _time(path, 1, lines[0]), _time(path, len(lines), lines[-1])
    shift = shift_to_now(first, last, now, play_from)
    position = now - shift
    texts = [
        (number, line.split(","))
        for number, line in enumerate(lines, start=1)
        if position - history_weeks * _WEEK <= _time(path, number, line) <= position + _FUTURE
    ]
    decimals = max((1, *(_decimals(path, number, columns) for number, columns in texts)))
    rows = [_row(path, number, columns, decimals) for number, columns in texts]
    for earlier, later in pairwise(rows):
        if later.time <= earlier.time:
            message = f"{path}: expected ascending times, found {later.time} after {earlier.time}"
            raise SourceError(message)
    return StreamSource(SimulatedPair(symbol, decimals), _trades(_within_limit(rows, position), shift))


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not text'})"
        raise SourceError(message) from error
    if not lines:
        message = f"{path}: expected rows of time,open,high,low,close,volume,trades, was empty"
        raise SourceError(message)
    return lines


def _time(path: Path, number: int, line: str) -> int:
    text = line.partition(",")[0]
    if not text.isdigit() or int(text) % _MINUTE:
        message = f"{path}, line {number}: expected the unix seconds of a full minute, was {text!r}"
        raise SourceError(message)
    return int(text)


def _decimals(path: Path, number: int, columns: list[str]) -> int:
    if len(columns) != _COLUMNS:
        message = f"{path}, line {number}: expected {_COLUMNS} columns, was {len(columns)}"
        raise SourceError(message)
    try:
        return max(decimals_of(text) for text in columns[1:5])
    except SourceError as error:
        message = f"{path}, line {number}: {error}"
        raise SourceError(message) from error


def _row(path: Path, number: int, columns: list[str], decimals: int) -> ArchiveCandle:
    try:
        opened, high, low, close = (units(text, decimals) for text in columns[1:5])
        volume = units(columns[5], VOLUME_UNITS)
        row = ArchiveCandle(int(columns[0]), opened, high, low, close, volume, int(columns[6]))
    except (SourceError, ValueError) as error:
        message = f"{path}, line {number}: {error}"
        raise SourceError(message) from error
    ends = {row.open, row.close}
    between = {row.high, row.low} - ends
    needed = 2 + len(between) if between or len(ends) > 1 else 1
    if not row.low <= min(ends) <= max(ends) <= row.high or row.trades < needed or row.volume < 0:
        message = f"{path}, line {number}: expected a candle that {row.trades} trades can make, was {','.join(columns)}"
        raise SourceError(message)
    return row


def _within_limit(rows: list[ArchiveCandle], position: float) -> list[ArchiveCandle]:
    left = _HISTORY_TRADES
    for index in range(len(rows) - 1, -1, -1):
        if rows[index].time <= position:
            left -= rows[index].trades
            if left < 0:
                return rows[index + 1 :]
    return rows


def _trades(rows: list[ArchiveCandle], shift: int) -> Iterator[TapeTrade]:
    for row in rows:
        yield from candle_trades(row._replace(time=row.time + shift))


def candle_trades(row: ArchiveCandle) -> list[TapeTrade]:
    """Return trades that reproduce this candle exactly, spread over its minute; deterministic."""
    draw = random.Random(row.time)  # noqa: S311 (not for secrets)
    times = sorted(draw.sample(range(_MINUTE * NANOS), row.trades))
    prices = _prices(row, draw)
    quantities = _quantities(row.volume, row.trades, draw)
    return [
        TapeTrade(row.time * NANOS + time, price, quantity, draw.random() < 0.5, draw.random() < 0.4)
        for time, price, quantity in zip(times, prices, quantities, strict=True)
    ]


def _prices(row: ArchiveCandle, draw: random.Random) -> list[int]:
    if row.trades == 1:
        return [row.open]
    extremes = [row.low, row.high] if row.close >= row.open else [row.high, row.low]
    between = [price for price in dict.fromkeys(extremes) if price not in (row.open, row.close)]
    while len(between) < row.trades - 2:
        between.insert(draw.randint(0, len(between)), draw.randint(row.low, row.high))
    return [row.open, *between, row.close]


def _quantities(volume: int, count: int, draw: random.Random) -> list[int]:
    least = 1 if volume >= count else 0
    free = volume - least * count
    cuts = [0, *sorted(draw.randint(0, free) for _ in range(count - 1)), free]
    return [least + after - before for before, after in pairwise(cuts)]
