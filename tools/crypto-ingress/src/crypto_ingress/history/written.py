"""Confirms that the store returns what was written to it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from crypto_ingress.history.candle_checks import newest
from crypto_ingress.history.stored import ROW_SCHEMA, stored_candles
from ingress_store import BulkSeries, StoreUnavailableError
from ingress_store.bulk import BulkRow

_ATTEMPTS = 3
_ROUNDED = 1e-5
"""Tolerance for comparing times (seconds): the store rounds to microseconds."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one series in the columns of the store; `fresh`: the store had none in their range."""

    series: BulkSeries
    rows: pl.DataFrame
    fresh: bool

    async def lacking(self) -> pl.DataFrame:
        """Those that the store does not have, or has in an older version."""
        first, last = self.rows["time"][0], self.rows["time"][-1]
        if self.fresh and await self.series.count(first, last + 1) >= self.rows.height:
            return self.rows.clear()
        stored = await stored_candles(self.series, first, last + 1, ("time", "closed", "revision", "at"))
        theirs = newest(stored).select("time", stored_revision="revision", stored_at="at")
        both = self.rows.join(theirs, on="time", how="left", maintain_order="left")
        same = (pl.col("stored_at") > pl.col("at") - _ROUNDED) & (pl.col("stored_revision") >= pl.col("revision"))
        newer = pl.col("stored_at") > pl.col("at") + _ROUNDED
        return both.filter((same | newer).fill_null(value=False).not_()).select(self.rows.columns)


@dataclass(slots=True)
class Written:
    """What was written of one piece of history, until it is confirmed.

    InfluxDB can lose rows that it has acknowledged, in a shard that it has just made (decision 45).
    """

    _parts: list[_Rows] = field(default_factory=list)
    _confirm_at: float = 0.0
    """When reading shows what stays (seconds of the event loop)."""

    async def write(self, series: BulkSeries, rows: pl.DataFrame, *, fresh: bool) -> int:
        """Write rows in the order of time; returns their number. `fresh`: the store has none in their range."""
        number = await series.write(rows.iter_rows())
        if number:
            self._parts.append(_Rows(series, rows, fresh))
            self._confirm_at = asyncio.get_running_loop().time() + series.confirm_seconds
        return number

    async def confirm(self) -> None:
        """Rewrite what the store does not return; StoreUnavailableError if it does not keep that either."""
        await asyncio.sleep(self._confirm_at - asyncio.get_running_loop().time())
        for part in self._parts:
            for _ in range(_ATTEMPTS):
                lacking = await part.lacking()
                if not lacking.height:
                    break
                await part.series.write(lacking.iter_rows())
                await asyncio.sleep(part.series.confirm_seconds)
            else:
                raise StoreUnavailableError(
                    f"{lacking.height} rows from {lacking['time'][0]} that the store acknowledged are not there; "
                    f"rewritten {_ATTEMPTS} times"
                )


async def write_confirmed(series: BulkSeries, rows: Sequence[BulkRow]) -> int:
    """Write corrections, in any order, and confirm them; returns their number."""
    written = Written()
    frame = pl.DataFrame(rows, ROW_SCHEMA, orient="row").sort("time", maintain_order=True)
    number = await written.write(series, frame, fresh=False)
    await written.confirm()
    return number
