"""`CandleStore` on InfluxDB 2."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from sys import intern
from types import TracebackType
from typing import Self

from ingress_common.gaps import Gap
from ingress_common.model import Candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_store.bootstrap import BootstrapResult, BootstrapState
from ingress_store.errors import StoreOpenError, StoreUnavailableError
from ingress_store.influx import flux, names
from ingress_store.influx.access import InfluxAccess
from ingress_store.influx.bulk import InfluxSeries
from ingress_store.influx.lines import LineError, Lines
from ingress_store.influx.new_shards import CONFIRM_SECONDS, NewShards, lost
from ingress_store.influx.reading import Reader
from ingress_store.influx.server import (
    NoRightError,
    NotThereError,
    ResultT,
    Server,
    TokenError,
    is_expired,
    with_store_errors,
)
from ingress_store.influx.setup import Setup
from ingress_store.influx.versions import Identity, KnownVersions, StoredVersion
from ingress_store.influx.writing import Line, LineWriter, RejectingError
from ingress_store.port import Freshness, Rejection, TaskState, WriteResult
from ingress_store.retention import Retention, duration
from ingress_store.url import InfluxUrl

_OTHERS_SECONDS = 900.0
"""Only this bucket has a problem if another one took candles in this time: in every 5 minutes several are due."""

_CLOCKS_SECONDS = 60.0
"""Maximum difference of this machine's clock from the server's."""

_BUCKETS = {timeframe: names.candles(timeframe) for timeframe in TIMEFRAMES}


class InfluxStore:
    """Candles in one InfluxDB, a bucket for each timeframe.

    InfluxDB keeps the last write and has no conditional write, so each symbol has one writer at a time. Of the versions
    of a candle that this store receives it keeps the newest (`ingress_store.ordering`), as far back as it remembers
    what it has written or recalled. By `clock` (unix seconds) it decides which candles `retention` keeps.
    """

    def __init__(
        self,
        url: InfluxUrl,
        access: InfluxAccess,
        *,
        clock: Callable[[], float] = time.time,
        retention: Retention | None = None,
    ) -> None:
        self._url = url
        self._location = str(url)
        self._access = access
        self._clock = clock
        self._retention = retention or Retention()
        self._stack = AsyncExitStack()
        self._connected: Server | None = None
        self._one_at_a_time = asyncio.Lock()
        self._lines = Lines()
        self._known = KnownVersions()
        self._new_shards = NewShards(self._retention)
        self._writer = LineWriter()
        self._taken_at = float("-inf")  # when a bucket last took candles (monotonic clock)

    async def __aenter__(self) -> Self:
        """Open; StoreOpenError if the server does not know the token. A server that is away is no error."""
        if self._connected is not None:
            raise StoreOpenError(f"{self._location} is already open")
        self._connected = await self._stack.enter_async_context(Server(self._url.http, self._access, self._location))
        try:
            await self.ping()
        except TokenError as error:
            await self.close()
            raise StoreOpenError(f"{error} (INFLUX_TOKEN)") from None
        except StoreUnavailableError:
            pass
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    @property
    def location(self) -> str:
        """The server's address as in STORE_URL, without secrets."""
        return self._location

    async def close(self) -> None:
        """Close the connections."""
        self._connected = None
        await self._stack.aclose()

    async def ping(self) -> None:
        """Send the server a trivial query."""
        found = await self._run(self._server().get("buckets", limit=1))
        if "buckets" not in found:
            raise StoreUnavailableError(f"{self._location}: expected InfluxDB's buckets, got {str(found)[:100]}")

    async def bootstrap(self) -> BootstrapResult:
        """Create or correct organisation, buckets, tasks and tokens."""
        return await self._run(self._setup().make())

    async def inspect(self) -> BootstrapState:
        """Compare organisation, buckets, tasks and tokens with the expected ones."""
        return await self._run(self._setup().inspect())

    async def tasks(self) -> list[TaskState]:
        """The state of the tasks."""
        return await self._run(self._setup().task_states())

    async def run_task(self, name: str) -> None:
        """Run one of the tasks now, beside its schedule."""
        await self._run(self._setup().run_task(name))

    async def write(self, candles: Sequence[Candle], ticks: Sequence[Candle]) -> WriteResult:
        """Write a batch, all buckets at once.

        Candles stay unstored if their bucket is missing, refuses the token, rejects line after line, or has a shorter
        retention than ours, while other buckets accept theirs. StoreUnavailableError if no bucket accepts candles, or
        if the bucket of ticks fails, because ticks cannot be requested later.
        """
        async with self._one_at_a_time:
            lines, newest, rejected_candles = self._candle_lines(candles)
            tick_lines, rejected_ticks = self._tick_lines(ticks)
            # A request waits for the disk more than it computes.
            writes = [self._write_lines(_BUCKETS[timeframe], "s", rows) for timeframe, rows in lines.items()]
            outcomes = await asyncio.gather(
                *writes, self._write_lines(names.TICKS, "ns", tick_lines), return_exceptions=True
            )
            rejected_ticks += _given(outcomes.pop())
            unstored: list[int] = []
            problems: list[StoreUnavailableError] = []
            for (timeframe, rows), outcome in zip(lines.items(), outcomes, strict=True):
                if isinstance(outcome, NoRightError | NotThereError | RejectingError):
                    unstored += (index for index, _ in rows)
                    problems.append(outcome)
                    continue
                rejected = _given(outcome)
                if expired := self._expired_early(timeframe, candles, rejected):
                    unstored += expired
                    kept = duration(self._retention.candles[timeframe])
                    problems.append(
                        StoreUnavailableError(
                            f"{_BUCKETS[timeframe]}: the bucket's retention is shorter than RETENTION ({kept}), so it "
                            f"rejects candles of {rfc3339(candles[expired[0]].open_time)}"
                        )
                    )
                rejected_candles += (rejection for rejection in rejected if rejection.index not in expired)
            if len(problems) < len(outcomes):
                self._taken_at = time.monotonic()
            elif problems and time.monotonic() - self._taken_at > _OTHERS_SECONDS:
                raise problems[0]
            for index in (*(rejection.index for rejection in rejected_candles), *unstored):
                newest.pop(_identity(candles[index]), None)
            await self._confirm(newest)
            self._known.remember(newest)
        left = len(rejected_candles) + len(rejected_ticks) + len(unstored)
        return WriteResult(
            len(candles) + len(ticks) - left,
            _by_index(rejected_candles),
            _by_index(rejected_ticks),
            tuple(sorted(unstored)),
            "; ".join(map(str, problems)),
        )

    def _expired_early(
        self, timeframe: Timeframe, candles: Sequence[Candle], rejected: Sequence[Rejection]
    ) -> list[int]:
        """The indices of rejected candles that are too old for the bucket, and not for our retention."""
        kept = self._retention.candles[timeframe]
        since = float("-inf") if kept is None else self._clock() - kept + _CLOCKS_SECONDS
        return [
            rejection.index
            for rejection in rejected
            if is_expired(rejection.reason) and candles[rejection.index].open_time > since
        ]

    async def _write_lines(self, bucket: str, precision: str, lines: Sequence[Line]) -> list[Rejection]:
        try:
            return await self._writer.write(self._server(), bucket, precision, lines)
        except (NoRightError, NotThereError) as error:
            raise type(error)(f"{bucket}: {error}") from None

    def series(self, symbol: str, timeframe: Timeframe) -> InfluxSeries:
        """The candles of one series, for bulk work."""
        return InfluxSeries(self._server(), self._location, symbol, timeframe)

    def _candle_lines(
        self, candles: Sequence[Candle]
    ) -> tuple[dict[Timeframe, list[Line]], dict[Identity, StoredVersion], list[Rejection]]:
        """The lines of the candles that are not older than the known versions, oldest first; and their versions."""
        newest: dict[Identity, StoredVersion] = {}
        chosen: dict[Identity, Line] = {}
        rejected: list[Rejection] = []
        for index, candle in enumerate(candles):
            identity = _identity(candle)
            version = candle.closed, candle.at, candle.revision
            known = newest.get(identity) or self._known.get(identity)
            if known is not None and version < known:
                continue
            try:
                chosen[identity] = index, self._lines.candle(candle)
            except LineError as error:
                rejected.append(Rejection(index, str(error)))
                continue
            newest[identity] = version
        lines: dict[Timeframe, list[Line]] = {}
        for identity in sorted(chosen, key=_open_time):
            lines.setdefault(identity[1], []).append(chosen[identity])
        return lines, newest, rejected

    async def _confirm(self, written: Mapping[Identity, StoredVersion]) -> None:
        """Read a row of each new shard back. StoreUnavailableError if it is lost: the caller retries the batch."""
        now = time.monotonic()
        unconfirmed = self._new_shards.unconfirmed(written, now)
        if unconfirmed:
            await asyncio.sleep(CONFIRM_SECONDS)
        for versions in unconfirmed:
            symbols, timeframes, times = map(set, zip(*versions, strict=True))
            (timeframe,) = timeframes
            stored = await self._run(self._reader().versions(symbols, timeframe, min(times), max(times) + 1))
            if missing := lost(versions, stored):
                symbol, _, open_time = missing[0]
                raise StoreUnavailableError(
                    f"{self._location}: {_BUCKETS[timeframe]} has not kept candles that it acknowledged, such as "
                    f"{symbol} of {flux.time(open_time)}"
                )
            self._new_shards.confirm(versions, now)

    def _tick_lines(self, ticks: Sequence[Candle]) -> tuple[list[Line], list[Rejection]]:
        lines: list[Line] = []
        rejected: list[Rejection] = []
        for index, tick in enumerate(ticks):
            try:
                lines.append((index, self._lines.tick(tick)))
            except LineError as error:
                rejected.append(Rejection(index, str(error)))
        return lines, rejected

    async def recall(self, symbols: Collection[str], timeframe: Timeframe, *, start: float, end: float) -> None:
        """Read the stored versions, in one query. A missing bucket has none."""
        with suppress(NoRightError, NotThereError):
            self._known.remember(await self._run(self._reader().versions(symbols, timeframe, start, end)))

    async def prune(self) -> int:
        """Nothing to do: the server applies the buckets' retention."""
        self._server()
        return 0

    async def candles(
        self, symbol: str, timeframe: Timeframe, *, start: float | None = None, end: float | None = None, limit: int
    ) -> list[Candle]:
        """The first `limit` closed candles of the range."""
        return await self._run(self._reader().oldest(symbol, timeframe, start, end, limit))

    async def newest_candles(
        self, symbol: str, timeframe: Timeframe, *, start: float | None = None, end: float | None = None, limit: int
    ) -> list[Candle]:
        """The last `limit` closed candles of the range, oldest first."""
        return await self._run(self._reader().newest(symbol, timeframe, start, end, limit))

    async def forming(self, symbol: str, timeframe: Timeframe) -> Candle | None:
        """The newest candle, if it is not closed."""
        return await self._run(self._reader().forming(symbol, timeframe))

    async def ticks(self, symbol: str, *, start: float, end: float, limit: int) -> list[Candle]:
        """The first `limit` ticks of the range."""
        return await self._run(self._reader().ticks(symbol, start, end, limit))

    async def symbols(self) -> list[str]:
        """Every symbol that has candles."""
        return await self._run(self._reader().symbols())

    async def latest(self) -> list[Freshness]:
        """The newest closed candle of each series."""
        return await self._run(self._reader().latest())

    async def newest_closed(self, timeframe: Timeframe, *, since: float) -> dict[str, int]:
        """The newest closed candle of each symbol: one query for all."""
        return await self._run(self._reader().newest_closed(timeframe, since))

    async def gaps(self, timeframe: Timeframe, *, start: float, end: float) -> list[Gap]:
        """Where closed candles are missing or incomplete: one query for all symbols."""
        return await self._run(self._reader().gaps(timeframe, start, end))

    async def query(self, text: str) -> str:
        """Run any Flux; returns the response as CSV. StoreUnavailableError also if the Flux is wrong."""
        return await self._run(self._server().query(text))

    async def _run(self, call: Awaitable[ResultT]) -> ResultT:
        return await with_store_errors(self._location, call)

    def _server(self) -> Server:
        if self._connected is None:
            raise StoreUnavailableError(f"{self._location} is closed")
        return self._connected

    def _reader(self) -> Reader:
        return Reader(self._server())

    def _setup(self) -> Setup:
        return Setup(self._server(), self._location, self._access.org, self._retention)


def _identity(candle: Candle) -> Identity:
    # Thousands of identities share the text of their symbol.
    return intern(candle.symbol), candle.timeframe, candle.open_time


def _open_time(identity: Identity) -> int:
    return identity[2]


def _by_index(rejections: list[Rejection]) -> tuple[Rejection, ...]:
    return tuple(sorted(rejections, key=lambda rejection: rejection.index))


def _given(outcome: list[Rejection] | BaseException) -> list[Rejection]:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
