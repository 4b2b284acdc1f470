"""Writing candles so that of each identity the newest version stays, whoever else writes."""

import asyncio
from collections.abc import Callable, Sequence

from ingress_common.logs import get_logger
from ingress_common.model import Candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store.errors import StoreUnavailableError
from ingress_store.influx import names
from ingress_store.influx.lines import candle_line
from ingress_store.influx.server import NotThereError, RefusedError, Server, TokenError
from ingress_store.influx.versions import Identity, Remembered, Unsettled, Version, identity, stored_versions
from ingress_store.influx.writing import BATCH_LINES, Line, write_lines
from ingress_store.port import Rejection, Settlement

SETTLE_AGES = (2.0, 15.0, 90.0)
"""Seconds after a write at which it is looked at again."""

_FRESH_SECONDS = 10.0
_STALE_SECONDS = 2.0
_UNSETTLED = 20_000
_TRIES = 3

Indexed = tuple[int, Candle]
"""A candle or tick, and its place in the batch."""

log = get_logger(__name__)


class OrderedWriter:
    """Writes candles with one connection and compares them over another; one batch at a time.

    InfluxDB keeps what was written last, knows no condition on a write, and merges two writes of one moment field by
    field. So a closed candle is compared with what is stored right before it is written, and looked for right after.
    What another writer had under way for longer may still replace it; so the store remembers what it wrote, and
    `settle` looks whether it is still there. A forming candle, which the next one replaces in a second, is compared
    only if it was received longer than 10 s ago by `clock` (unix seconds).
    """

    def __init__(
        self, writing: Server, reading: Server, clock: Callable[[], float], settle_ages: Sequence[float]
    ) -> None:
        self._writing = writing
        self._reading = reading
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._remembered = Remembered()
        # Apart, so that a backlog of candles does not push out the corrections, which are what may get lost.
        self._corrections = Unsettled(settle_ages, _UNSETTLED)
        self._originals = Unsettled(settle_ages, _UNSETTLED)
        self._dropped_told = 0
        self._warned = False

    async def write(self, rows: Sequence[Indexed]) -> list[Rejection]:
        """Write those of `rows` that are not older than what is stored, a request or more a bucket."""
        rejected: list[Rejection] = []
        async with self._one_at_a_time:
            for timeframe in TIMEFRAMES:
                own = sorted(
                    (row for row in rows if row[1].timeframe is timeframe), key=lambda row: row[1].open_time
                )  # oldest first, so that what is past its retention stands together
                for start in range(0, len(own), BATCH_LINES):
                    rejected += await self._write_some(timeframe, own[start : start + BATCH_LINES])
        return rejected

    async def settle(self) -> Settlement:
        """Compare what was written 2 s, 15 s and 90 s ago with what is stored, and write again what was replaced by an
        older version, or is gone.
        """
        rewritten = 0
        async with self._one_at_a_time:
            for unsettled in (self._corrections, self._originals):
                rewritten += await self._settle(unsettled)
        dropped = self._corrections.dropped + self._originals.dropped
        told, self._dropped_told = self._dropped_told, dropped
        return Settlement(rewritten, dropped - told)

    async def _settle(self, unsettled: Unsettled) -> int:
        due = unsettled.due(asyncio.get_running_loop().time(), BATCH_LINES)
        stored = await self._stored(due)
        replaced: dict[Timeframe, list[Indexed]] = {}
        for index, candle in enumerate(due):
            known = None if stored is None else stored.get(identity(candle))
            if stored is None or (known is not None and known > Version.of(candle)):
                # Nobody can look, or it has been replaced by a newer one, which is for that one's writer to look after.
                unsettled.forget(candle)
            elif known == Version.of(candle):
                unsettled.found(candle)
            else:
                replaced.setdefault(candle.timeframe, []).append((index, candle))
        count = 0
        for timeframe, rows in replaced.items():
            refused = await self._write_some(timeframe, rows)
            for entry in refused:
                unsettled.forget(due[entry.index])
            count += len(rows) - len(refused)
            log.info("store.rewritten", timeframe=timeframe.value, rows=len(rows), refused=len(refused))
        return count

    async def _write_some(self, timeframe: Timeframe, rows: Sequence[Indexed]) -> list[Rejection]:
        rejected: list[Rejection] = []
        for _ in range(_TRIES):
            written, refused = await self._write_once(timeframe, rows)
            rejected += refused
            closed = [row for row in written if row[1].closed]
            stored = await self._stored([candle for _, candle in closed])
            if stored is None:
                break
            rows = [(index, candle) for index, candle in closed if not _is_there(candle, stored)]
            if not rows:
                break
        return rejected

    async def _write_once(
        self, timeframe: Timeframe, rows: Sequence[Indexed]
    ) -> tuple[Sequence[Indexed], list[Rejection]]:
        loop = asyncio.get_running_loop()
        compared = loop.time()
        newer = await self._newer(rows)
        if loop.time() - compared > _STALE_SECONDS:
            # This process stood still, or the server was slow: others may have written meanwhile.
            newer = await self._newer(rows)
        lines = [Line(index, candle_line(candle)) for (index, candle), _ in newer]
        refused = await write_lines(self._writing, names.candles(timeframe), "s", lines)
        out = {entry.index for entry in refused}
        written = [(row, known) for row, known in newer if row[0] not in out]
        for (_, candle), known in written:
            self._note(candle, known)
        return [row for row, _ in written], refused

    def _note(self, candle: Candle, known: Version | None) -> None:
        self._remembered.put(candle)
        if not candle.closed:
            return
        replaces_another = known is not None and known.closed and known != Version.of(candle)
        correction = candle.revision > 0 or replaces_another
        keep, leave = (self._corrections, self._originals) if correction else (self._originals, self._corrections)
        leave.forget(candle)
        keep.put(candle, asyncio.get_running_loop().time())

    async def _newer(self, rows: Sequence[Indexed]) -> list[tuple[Indexed, Version | None]]:
        """Those of `rows` that take the place of what is stored, and its version."""
        now = self._clock()
        asked = [candle for _, candle in rows if candle.closed or abs(now - candle.at) > _FRESH_SECONDS]
        stored = await self._stored(asked)
        looked_up = set() if stored is None else {identity(candle) for candle in asked}
        newer = []
        for index, candle in rows:
            key = identity(candle)
            known = stored.get(key) if stored is not None and key in looked_up else self._remembered.get(key)
            # What is to be there counts like what is there: an older version may have replaced it a moment ago.
            latest = max(
                filter(None, (known, self._corrections.watched(key), self._originals.watched(key))), default=None
            )
            if latest is None or Version.of(candle) >= latest:
                newer.append(((index, candle), known))
        return newer

    async def _stored(self, candles: list[Candle]) -> dict[Identity, Version] | None:
        """What is stored of `candles`; None where the token may only write, and only our own memory can tell."""
        if not candles:
            return {}
        try:
            return await stored_versions(self._reading, candles)
        except (TokenError, NotThereError) as error:
            # A bucket that is not there looks the same; then the write fails too, and will be tried again.
            if not self._warned:
                hint = "set INFLUX_READ_TOKEN, so that a repeat of an old message cannot undo a correction"
                log.warning("store.cannot-read", reason=str(error), hint=hint)
            self._warned = True
            return None
        except RefusedError as error:
            # Our own Flux that the server does not take is a defect; it must show and not end a service.
            raise StoreUnavailableError(f"the server refuses a query: {error}") from error


def _is_there(candle: Candle, stored: dict[Identity, Version]) -> bool:
    """Whether `candle`, or a newer version of it, is stored."""
    known = stored.get(identity(candle))
    return known is not None and known >= Version.of(candle)
