"""Kraken's archive files (OHLCVT): `time,open,high,low,close,volume,trades`, a row a minute that traded."""

from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path

from ingress_common.model import Candle, Source
from ingress_common.timeframes import Timeframe

_COLUMNS = "time,open,high,low,close,volume,trades"
_LATEST = 10_000_000_000  # unix seconds; a larger number is milliseconds


class ArchiveError(Exception):
    """A file that is not an archive of 1m candles.

    The text names the file, the line, what was expected and what came.
    """


def read_archive(path: Path, symbol: str, at: float, progress: Callable[[int], None] | None = None) -> Iterator[Candle]:
    """The 1m candles of `path`, oldest first; `at` (unix seconds) becomes the candles' time of receipt. ArchiveError at
    the first bad row.

    `progress` is told the bytes read so far. Archive files have no vwap: see `_vwap`.
    """
    try:
        with path.open("rb") as file:
            before = -1
            read = 0
            for number, line in enumerate(file, 1):
                read += len(line)
                if not line.strip():
                    continue
                try:
                    candle = _candle(line, symbol, at)
                    if candle.open_time <= before:
                        raise ValueError(f"expected a time after {before}, got {candle.open_time}")
                except ValueError as error:
                    raise ArchiveError(f"{path}, line {number}: {error}") from None
                before = candle.open_time
                yield candle
                if progress and number % 1000 == 0:
                    progress(read)
            if before < 0:
                raise ArchiveError(f"{path}: expected rows of {_COLUMNS}, the file is empty")
            if progress:
                progress(read)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from None


def _candle(line: bytes, symbol: str, at: float) -> Candle:
    try:
        text = line.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError(f"expected {_COLUMNS}, got bytes that are not text") from None
    fields = text.split(",")
    if len(fields) != 7:
        raise ValueError(f"expected the 7 columns {_COLUMNS}, got {text[:100]!r}")
    try:
        if "_" in text:  # Python would take 1_000 for a number
            raise ValueError
        open_time, trades = int(fields[0]), int(fields[6])
        o, h, low, c, volume = (Decimal(field) for field in fields[1:6])
    except (ValueError, InvalidOperation):
        raise ValueError(f"expected numbers for {_COLUMNS}, got {text[:100]!r}") from None
    if not 0 <= open_time < _LATEST or open_time % Timeframe.M1.seconds:
        raise ValueError(f"expected the unix seconds of a whole minute, got {open_time}")
    if not all(number.is_finite() and abs(number.adjusted()) < 30 for number in (o, h, low, c, volume)):
        raise ValueError(f"expected finite prices and volume, got {text[:100]!r}")
    if not 0 <= low <= min(o, c) <= max(o, c) <= h:
        raise ValueError(f"expected 0 <= low <= open, close <= high, got {text[:100]!r}")
    if volume < 0 or trades < 1:
        raise ValueError(f"expected a volume of 0 or more and at least 1 trade, got {text[:100]!r}")
    return Candle(
        symbol=symbol,
        timeframe=Timeframe.M1,
        open_time=open_time,
        open=o,
        high=h,
        low=low,
        close=c,
        volume=volume,
        vwap=_vwap(o, h, low, c),
        trades=trades,
        closed=True,
        infilled=False,
        complete=True,
        revision=0,
        source=Source.ARCHIVE,
        at=at,
    )


def _vwap(o: Decimal, h: Decimal, low: Decimal, c: Decimal) -> Decimal:
    """The mean of the four prices: exact where the minute has one price, else an estimate between low and high.

    The archive does not say more (`docs/decisions/0004-archive-vwap.md`).
    """
    return o if h == low else (o + h + low + c) / 4
