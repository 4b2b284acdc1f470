"""`CandleStore` on one SQLite file."""

import asyncio
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ingress_common.gaps import Gap
from ingress_common.model import Candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store.bootstrap import BootstrapResult, BootstrapState
from ingress_store.errors import StoreOpenError, StoreUnavailableError
from ingress_store.gaps import gaps_of
from ingress_store.port import Freshness, Rejection, TaskState, WriteResult
from ingress_store.retention import Retention
from ingress_store.sqlite import queries, rows, schema
from ingress_store.sqlite.bulk import SqliteSeries

_PRUNE_ROWS = 5_000
_ROOM_BYTES = 4 * 1024 * 1024
"""A write-ahead log of the usual size. Rows fit into an old one for minutes after the disk is full, so the failure of a
write comes late.
"""

ResultT = TypeVar("ResultT")


class SqliteStore:
    """Candles in one file, for one machine; other processes may have it open too.

    One worker thread owns the connection, so nothing blocks the loop and no lock is needed. Write-ahead log with
    `synchronous=FULL`: a batch is on the disk when `write` returns, so neither a killed process nor a power cut loses
    what was acknowledged to the broker. NORMAL would save one fsync a batch (two a second) and give up the power cut. A
    call waits up to `busy_seconds` for a lock that another process holds.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        retention: Retention | None = None,
        busy_seconds: float = 5.0,
    ) -> None:
        self._path = path
        self._clock = clock
        self._retention = retention or Retention()
        self._busy_seconds = busy_seconds
        self._worker: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        """Open the file; creates it, its directory and tables if missing."""
        if self._worker is not None:
            raise StoreOpenError(f"{self.location} is already open")
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-store")
        try:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._open)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        await self.close()

    @property
    def location(self) -> str:
        """The file."""
        return f"sqlite:///{self._path}"

    async def close(self) -> None:
        """Finish the running write and close the file."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(worker, self._close)
        finally:
            worker.shutdown(wait=False)

    async def ping(self) -> None:
        """Read from the file, and check the free space on its disk."""

        def look(connection: sqlite3.Connection) -> None:
            connection.execute("SELECT 1 FROM series LIMIT 1").fetchone()
            if (room := shutil.disk_usage(self._path.parent).free) < _ROOM_BYTES:
                raise StoreUnavailableError(
                    f"{self.location}: the disk is full: expected {_ROOM_BYTES:,} bytes of room, got {room:,}"
                )

        await self._run(look)

    async def bootstrap(self) -> BootstrapResult:
        """Create tables and indexes that are missing."""

        def work(connection: sqlite3.Connection) -> BootstrapResult:
            changes = schema.create_missing(connection, self.location)
            return BootstrapResult(changes, schema.inspect(connection, self.location))

        return await self._run(work)

    async def inspect(self) -> BootstrapState:
        """Compare tables and indexes with the expected ones."""
        return await self._run(lambda connection: schema.inspect(connection, self.location))

    async def tasks(self) -> list[TaskState]:
        """No tasks: SQLite runs nothing by itself."""
        return []

    async def run_task(self, name: str) -> None:
        """Do nothing: there are no tasks."""

    async def write(self, candles: Sequence[Candle], ticks: Sequence[Candle]) -> WriteResult:
        """Write a batch in one transaction, synced to the disk."""
        written_at = self._clock()
        kept_candles, rejected_candles = _sorted_out(candles)
        kept_ticks, rejected_ticks = _sorted_out(ticks)
        await self._run(
            lambda connection: rows.write(
                connection,
                [rows.row_of(candle) for candle in kept_candles],
                [rows.row_of(tick) for tick in kept_ticks],
                written_at,
            )
        )
        return WriteResult(len(kept_candles) + len(kept_ticks), rejected_candles, rejected_ticks)

    def series(self, symbol: str, timeframe: Timeframe) -> SqliteSeries:
        """The candles of one series, for bulk work."""
        return SqliteSeries(self._run, self._clock, symbol, timeframe)

    async def recall(self, symbols: Collection[str], timeframe: Timeframe, *, start: float, end: float) -> None:
        """Do nothing: the write itself compares."""

    async def prune(self) -> int:
        """Delete expired rows, in pieces so that writes can run in between."""
        now = self._clock()
        removed = 0
        for timeframe, kept in self._retention.candles.items():
            if kept is not None:
                removed += await self._prune(partial(queries.prune_candles, timeframe=timeframe, before=now - kept))
        if self._retention.ticks is not None:
            removed += await self._prune(partial(queries.prune_ticks, before=now - self._retention.ticks))
        return removed

    async def candles(
        self, symbol: str, timeframe: Timeframe, *, start: float | None = None, end: float | None = None, limit: int
    ) -> list[Candle]:
        """The first `limit` closed candles of the range."""
        return await self._run(lambda c: queries.oldest(c, symbol, timeframe, start, end, limit))

    async def newest_candles(
        self, symbol: str, timeframe: Timeframe, *, start: float | None = None, end: float | None = None, limit: int
    ) -> list[Candle]:
        """The last `limit` closed candles of the range, oldest first."""
        return await self._run(lambda c: queries.newest(c, symbol, timeframe, start, end, limit))

    async def forming(self, symbol: str, timeframe: Timeframe) -> Candle | None:
        """The newest candle, if it is not closed."""
        return await self._run(lambda c: queries.forming(c, symbol, timeframe))

    async def ticks(self, symbol: str, *, start: float, end: float, limit: int) -> list[Candle]:
        """The first `limit` ticks of the range."""
        return await self._run(lambda c: queries.ticks(c, symbol, start, end, limit))

    async def symbols(self) -> list[str]:
        """Every symbol that has candles."""
        return await self._run(queries.symbols)

    async def latest(self) -> list[Freshness]:
        """The newest closed candle of each series."""
        order = {timeframe: place for place, timeframe in enumerate(TIMEFRAMES)}
        return sorted(await self._run(queries.latest), key=lambda f: (f.symbol, order[f.timeframe]))

    async def newest_closed(self, timeframe: Timeframe, *, since: float) -> dict[str, int]:
        """The newest closed candle of each symbol."""
        return await self._run(partial(queries.newest_closed, timeframe=timeframe, since=since))

    async def gaps(self, timeframe: Timeframe, *, start: float, end: float) -> list[Gap]:
        """Where closed candles are missing or incomplete; symbol by symbol, so that writes can run in between."""
        begin, stop = timeframe.floor(start), timeframe.ceil(end)
        missing: list[tuple[str, int, int]] = []
        incomplete: list[tuple[str, int]] = []
        for symbol in await self._run(queries.symbols):
            missing += await self._run(
                partial(queries.missing, symbol=symbol, timeframe=timeframe, start=begin, end=stop)
            )
            incomplete += await self._run(
                partial(queries.incomplete, symbol=symbol, timeframe=timeframe, start=begin, end=stop)
            )
        return gaps_of(timeframe, missing, incomplete)

    async def _run(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Run `work` in the worker thread; errors of SQLite become StoreUnavailableError.

        So does a file that was deleted or replaced, or its write-ahead log (`-wal`): SQLite would go on with the old
        one, which nobody else can read.
        """

        def guarded() -> ResultT:
            if self._connection is None:
                raise StoreUnavailableError(f"{self.location} is closed")
            try:
                for path, opened in self._opened.items():
                    if not os.path.samestat(path.stat(), opened):
                        raise StoreUnavailableError(f"{path}: the file was replaced; a restart opens the new one")
                return work(self._connection)
            except (sqlite3.Error, OSError, schema.LayoutError) as error:
                raise StoreUnavailableError(f"{self.location}: {error}") from error

        if self._worker is None:
            raise StoreUnavailableError(f"{self.location} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._worker, guarded)

    async def _prune(self, some: Callable[..., int]) -> int:
        removed = 0
        while True:
            count = await self._run(lambda connection: some(connection, limit=_PRUNE_ROWS))
            removed += count
            if count < _PRUNE_ROWS:
                return removed

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Only the worker thread uses it, also to close it.
            connection = sqlite3.connect(self._path, timeout=self._busy_seconds, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise StoreOpenError(f"expected a SQLite file at {self._path}, got: {_reason(error)}") from error
        try:
            _retry_while_busy(lambda: connection.execute("PRAGMA journal_mode = WAL"), self._busy_seconds)
            connection.execute("PRAGMA synchronous = FULL")
            schema.create_missing(connection, self.location)
            log = Path(f"{self._path.resolve()}-wal")
            self._opened = {path: path.stat() for path in (self._path, log)}
        except (sqlite3.Error, schema.LayoutError, OSError) as error:
            connection.close()
            raise StoreOpenError(f"expected a SQLite file at {self._path}, got: {_reason(error)}") from error
        self._connection = connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _sorted_out(candles: Sequence[Candle]) -> tuple[list[Candle], tuple[Rejection, ...]]:
    kept: list[Candle] = []
    rejected: list[Rejection] = []
    for index, candle in enumerate(candles):
        reason = rows.rejection(candle)
        if reason is None:
            kept.append(candle)
        else:
            rejected.append(Rejection(index, reason))
    return kept, tuple(rejected)


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _retry_while_busy(step: Callable[[], Any], seconds: float) -> None:
    """The switch to WAL does not wait for a lock by itself, so two services that start at once would fail."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            step()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
