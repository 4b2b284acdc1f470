"""Forming candles for the store: only the newest of each, about once a second, while its window is open."""

from collections.abc import Iterable

from influx_writer.intake import PendingRow
from ingress_common.model import Series
from ingress_store import replaces

_EVERY_SECONDS = 1.0


class FormingBuffer:
    """The newest forming candle of each symbol and timeframe that waits to be written.

    A superseded candle is no loss: a newer state of it, or the closed candle, holds more. Its message is acknowledged
    at once.
    """

    def __init__(self) -> None:
        self._waiting: dict[Series, PendingRow] = {}
        self._written: dict[Series, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, row: PendingRow) -> bool:
        """Add a forming candle; False if `row` and a waiting candle were merged into the newer one."""
        series = _series(row)
        waiting = self._waiting.get(series)
        if waiting is None:
            self._waiting[series] = row
            return True
        newer = _is_newer(row, waiting)
        (waiting if newer else row).ack()
        if newer:
            self._waiting[series] = row
        return False

    def closed(self, row: PendingRow) -> None:
        """Process a received closed candle: drop the waiting candle of the same window or an earlier one."""
        series = _series(row)
        waiting = self._waiting.get(series)
        if waiting is not None and waiting.candle.open_time <= row.candle.open_time:
            self._waiting.pop(series).ack()

    def due(self, now: float, earliest: float, limit: int) -> list[PendingRow]:
        """Up to `limit` rows to write at `now` (unix seconds). Rows whose window begins later, or has ended by
        `earliest`, are dropped.
        """
        for series, row in list(self._waiting.items()):
            if row.candle.open_time > now or row.candle.close_time <= earliest:
                self._waiting.pop(series)
                row.ack()
        # A clock that was set back must not delay a candle.
        self._written = {series: at for series, at in self._written.items() if 0 <= now - at < _EVERY_SECONDS}
        return [row for series, row in self._waiting.items() if series not in self._written][: max(limit, 0)]

    def written(self, rows: Iterable[PendingRow], now: float) -> None:
        """Note that `rows` of `due` were written, or are never to be written."""
        for row in rows:
            series = _series(row)
            self._written[series] = now
            if self._waiting.get(series) is row:
                self._waiting.pop(series)


def _series(row: PendingRow) -> Series:
    return row.candle.symbol, row.candle.timeframe


def _is_newer(row: PendingRow, waiting: PendingRow) -> bool:
    if row.candle.open_time != waiting.candle.open_time:
        return row.candle.open_time > waiting.candle.open_time
    return replaces(row.candle, waiting.candle)
