"""Bulk access to years of one series, for the command line.

Rows are plain values in the order of `COLUMNS`: no candle objects are built.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

COLUMNS = (
    "time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "trades",
    "closed",
    "infilled",
    "complete",
    "revision",
    "source",
    "at",
)
"""Open time (unix seconds), plain decimals as text, trades, whether closed, infilled and complete (1 or 0), revision,
source, and `at` (unix seconds).
"""

BulkRow = tuple[int, str, str, str, str, str, str, int, bool, bool, bool, int, str, float]
"""The values of a candle in the order of `COLUMNS`."""


class BulkSeries(Protocol):
    """The candles of one symbol and timeframe. Every call raises StoreUnavailableError while the store does not answer.

    Ranges are open times in unix seconds, the end excluded.
    """

    confirm_seconds: float
    """Seconds after a write in which a read may still show a row that is then lost; 0.0 if the store loses none."""

    async def count(self, start: int, end: int) -> int:
        """The number of candles, forming ones included."""
        ...

    async def read(self, start: int, end: int, columns: Sequence[str] = COLUMNS) -> bytes:
        """The candles as CSV with a header, oldest first, forming ones included; `columns`: a subset of `COLUMNS`."""
        ...

    async def bounds(self) -> tuple[int, int] | None:
        """The open times of the oldest and the newest closed candle; None if there is none."""
        ...

    async def write(self, rows: Iterable[BulkRow]) -> int:
        """Write closed candles; they are durable on return. A store that can compare keeps the newer version
        (`ordering.replaces`). Returns the number of given rows.
        """
        ...

    async def delete(self, times: Iterable[int]) -> None:
        """Remove the rows that open at `times`. Use it only for rows that are no candles."""
        ...
