"""Kraken's archive files (OHLCVT): `time,open,high,low,close,volume,trades`, one row for each minute with trades."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

from ingress_common.model import Candle, Source
from ingress_common.timeframes import Timeframe

COLUMNS = "time,open,high,low,close,volume,trades"
"""The columns of a file of candles."""

LATEST = 10_000_000_000  # unix seconds; a larger number is milliseconds
EARLIEST = 1_377_993_600  # unix seconds of 2013-09-01: nothing traded at Kraken before that month
SAMPLE_ROWS = 64
"""Number of rows at the start of a file from which its interval is derived."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some programs write before the first line of a text."""

_CHANCE = 1e-6
_STRAYS = 9
_TIMES = frozenset({"time", "timestamp", "unix", "unixtime", "date", "datetime", "open_time"})
_VOLUMES = frozenset({"volume", "vol", "amount", "size", "qty", "quantity"})
_COUNTS = frozenset({"trades", "count", "trade_count", "tradecount", "trades_count"})
_HEADERS: tuple[tuple[Collection[str], ...], ...] = (
    (_TIMES, *({name} for name in ("open", "high", "low", "close")), _VOLUMES, _COUNTS),
    (_TIMES, {"price"}, _VOLUMES),
)


class ArchiveError(Exception):
    """A file is not an archive of 1m candles. The text names file, line, what was expected and what came."""


def read_archive(path: Path, symbol: str, at: float, progress: Callable[[int], None] | None = None) -> Iterator[Candle]:
    """The 1m candles of `path`, oldest first; `at` (unix seconds) becomes their time of receipt.

    `progress` gets the bytes read so far. Archive files have no vwap: see `_vwap`. ArchiveError at the first bad row.
    """
    try:
        with path.open("rb") as file:
            before = -1
            read = 0
            first_times: list[int] = []
            for number, line in enumerate(file, 1):
                read += len(line)
                if number == 1:
                    line = line.removeprefix(BYTE_ORDER_MARK)  # noqa: PLW2901 - it is no part of the first field
                if not line.strip() or (number == 1 and is_header(line, str(path))):
                    continue
                try:
                    candle = _candle(line, symbol, at)
                    if candle.open_time <= before:
                        raise ValueError(f"expected a time after {before}, got {candle.open_time}")
                except ValueError as error:
                    raise ArchiveError(f"{path}, line {number}: {error}") from None
                before = candle.open_time
                if len(first_times) < SAMPLE_ROWS:
                    first_times.append(before)
                    if len(first_times) == SAMPLE_ROWS:
                        expect_minutes(str(path), first_times)
                yield candle
                if progress and number % 1000 == 0:
                    progress(read)
            if before < 0:
                raise ArchiveError(f"{path}: expected rows of {COLUMNS}, the file is empty")
            expect_minutes(str(path), first_times)
            if progress:
                progress(read)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from None


class ArchiveRow(NamedTuple):
    """A row of an archive file; numbers keep the file's digits."""

    open_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int


def parse_row(line: bytes, step: int = Timeframe.M1.seconds) -> ArchiveRow:
    """Parse a line of a file whose candles are `step` seconds long. ValueError if the line is malformed."""
    try:
        text = line.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError(f"expected {COLUMNS}, got bytes that are not text") from None
    fields = text.split(",")
    if len(fields) != 7:
        raise ValueError(f"expected the 7 columns {COLUMNS}, got {text[:100]!r}")
    try:
        if "_" in text:  # Python parses 1_000 as a number
            raise ValueError
        open_time, trades = int(fields[0]), int(fields[6])
        o, h, low, c, volume = (Decimal(field) for field in fields[1:6])
    except (ValueError, InvalidOperation):
        raise ValueError(f"expected numbers for {COLUMNS}, got {text[:100]!r}") from None
    if not 0 <= open_time < LATEST or open_time % step:
        window = "minute" if step == Timeframe.M1.seconds else f"{step // 60} minutes"
        raise ValueError(f"expected the unix seconds of a whole {window}, got {open_time}")
    if not all(number.is_finite() and abs(number.adjusted()) < 30 for number in (o, h, low, c, volume)):
        raise ValueError(f"expected finite prices and volume, got {text[:100]!r}")
    if not 0 <= low <= min(o, c) <= max(o, c) <= h:
        raise ValueError(f"expected 0 <= low <= open, close <= high, got {text[:100]!r}")
    if volume < 0 or trades < 1:
        raise ValueError(f"expected a volume of 0 or more and at least 1 trade, got {text[:100]!r}")
    return ArchiveRow(open_time, o, h, low, c, volume, trades)


def is_header(line: bytes, label: str) -> bool:
    """Whether the first line of the file `label` names Kraken's columns in their order.

    ArchiveError if it names other columns, because the rows would be read wrongly.
    """
    text = line.removeprefix(BYTE_ORDER_MARK).decode(errors="replace").strip()
    names = [field.strip(" \"'").lower() for field in text.split(",")]
    if not {"open", "close", "price"} & set(names):
        return False
    if any(_are_named(columns, names) for columns in _HEADERS):
        return True
    raise ArchiveError(f"{label}: expected the columns {COLUMNS}, got the header {text[:100]!r}")


def _are_named(columns: Sequence[Collection[str]], names: Sequence[str]) -> bool:
    if len(columns) != len(names):
        return False
    return all(name in column for column, name in zip(columns, names, strict=True))


def _candle(line: bytes, symbol: str, at: float) -> Candle:
    row = parse_row(line)
    return Candle(
        symbol=symbol,
        timeframe=Timeframe.M1,
        open_time=row.open_time,
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
        vwap=_vwap(row.open, row.high, row.low, row.close),
        trades=row.trades,
        closed=True,
        infilled=False,
        complete=True,
        revision=0,
        source=Source.ARCHIVE,
        at=at,
    )


INTERVALS = (1, 5, 15, 30, 60, 240, 720, 1440, 10080, 21600)
"""Candle lengths in minutes that a file may have: Kraken's, and some of other sources."""


def interval_of(times: Sequence[int]) -> int:
    """The candle length in minutes, derived from the open times `times` (unix seconds); 1 unless another is certain.

    A few 1m candles of a thin pair may all open on the hour by chance, many may not. Up to a tenth of the times may
    be off the grid, as in an hourly file to which someone has added single minutes.
    """
    return max((minutes for minutes in INTERVALS if _is_grid_of(times, minutes)), default=1)


def _is_grid_of(times: Sequence[int], minutes: int) -> bool:
    """Whether the open times of 1m candles would hardly ever lie on whole `minutes` as often as `times` do."""
    off = sum(time % (minutes * 60) > 0 for time in times)
    on = len(times) - off
    return off * _STRAYS <= on and math.comb(len(times), off) * float(minutes) ** (1 - on) <= _CHANCE


def expect_minutes(label: str, times: Sequence[int]) -> None:
    """ArchiveError if the candles of the file `label`, whose first ones open at `times`, are not 1m candles."""
    interval = interval_of(times)
    if interval != 1:
        raise ArchiveError(f"{label}: expected candles of 1 minute, got candles of {interval} minutes")


def _vwap(o: Decimal, h: Decimal, low: Decimal, c: Decimal) -> Decimal:
    """The mean of the four prices: exact if the minute has one price, else an estimate between low and high.

    The archive has no more information (`docs/decisions/0004-archive-vwap.md`).
    """
    return o if h == low else (o + h + low + c) / 4
