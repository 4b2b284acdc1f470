"""`CandleStore` on InfluxDB 2."""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

from ingress_common.model import Candle
from ingress_common.timeframes import Timeframe
from ingress_store.bootstrap import BootstrapResult, BootstrapState
from ingress_store.errors import StoreOpenError, StoreUnavailableError
from ingress_store.holes import Hole
from ingress_store.influx import names
from ingress_store.influx.access import InfluxAccess, http_url
from ingress_store.influx.lines import rejection, tick_line
from ingress_store.influx.ordered import SETTLE_AGES, Indexed, OrderedWriter
from ingress_store.influx.reading import Reader
from ingress_store.influx.server import RefusedError, Server, TokenError
from ingress_store.influx.setup import Setup
from ingress_store.influx.versions import Identity, identity
from ingress_store.influx.writing import Line, write_lines
from ingress_store.ordering import replaces
from ingress_store.port import Freshness, Rejection, Settlement, TaskState, WriteResult
from ingress_store.retention import Retention

AnswerT = TypeVar("AnswerT")


class InfluxStore:
    """Candles in one InfluxDB, a bucket for each timeframe; any number of services may write.

    Which version of a candle stays is the business of `influx.ordered`, which looks at each write again at
    `settle_ages` (seconds). `clock` gives unix seconds.
    """

    def __init__(
        self,
        url: str,
        access: InfluxAccess,
        *,
        clock: Callable[[], float] = time.time,
        retention: Retention | None = None,
        settle_ages: Sequence[float] = SETTLE_AGES,
    ) -> None:
        self._url = http_url(url)
        self._location = url
        self._access = access
        self._clock = clock
        self._retention = retention or Retention()
        self._stack = AsyncExitStack()
        self._writing: Server | None = None
        self._reading: Server | None = None
        self._settle_ages = settle_ages
        self._candles: OrderedWriter | None = None

    async def __aenter__(self) -> Self:
        """Open; StoreOpenError if the server does not know the token. One that is away is no reason not to start."""
        if self._writing is not None:
            raise StoreOpenError(f"{self._location} is already open")
        self._writing = await self._stack.enter_async_context(
            Server.for_writing(self._url, self._access, self._location)
        )
        self._reading = await self._stack.enter_async_context(
            Server.for_reading(self._url, self._access, self._location)
        )
        self._candles = OrderedWriter(self._writing, self._reading, self._clock, self._settle_ages)
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
        """The server."""
        return self._location

    async def close(self) -> None:
        """Close the connections."""
        self._writing = self._reading = self._candles = None
        await self._stack.aclose()

    async def ping(self) -> None:
        """Ask the server for next to nothing, with both tokens."""
        await self._writer().get("buckets", limit=1)
        if self._access.read_token is not None:
            await self._reader().server.get("buckets", limit=1)

    async def bootstrap(self) -> BootstrapResult:
        """Make organisation, buckets, tasks and tokens, or make them right."""
        return await self._answered(self._setup().make())

    async def inspect(self) -> BootstrapState:
        """Compare organisation, buckets, tasks and tokens with what should be there."""
        return await self._answered(self._setup().inspect())

    async def tasks(self) -> list[TaskState]:
        """How the tasks are doing."""
        return await self._answered(self._setup().task_states())

    async def write(self, candles: Sequence[Candle], ticks: Sequence[Candle]) -> WriteResult:
        """Write a batch, one request a bucket."""
        kept, rejected_candles = _sorted_out(candles)
        kept_ticks, rejected_ticks = _sorted_out(ticks)
        rejected_candles += await self._candles_writer().write(_winners(kept))
        lines = [Line(index, tick_line(tick)) for index, tick in _oldest_first(kept_ticks)]
        rejected_ticks += await write_lines(self._writer(), names.TICKS, "ns", lines)
        taken = len(candles) + len(ticks) - len(rejected_candles) - len(rejected_ticks)
        return WriteResult(taken, _by_index(rejected_candles), _by_index(rejected_ticks))

    async def settle(self) -> Settlement:
        """Write again what an older version of another writer has replaced."""
        return await self._candles_writer().settle()

    async def prune(self) -> int:
        """Nothing: the server does it, by the buckets' retention."""
        self._writer()
        return 0

    async def candles(
        self, symbol: str, timeframe: Timeframe, *, start: float | None = None, end: float | None = None, limit: int
    ) -> list[Candle]:
        """The first `limit` closed candles of the range."""
        return await self._reader().oldest(symbol, timeframe, start, end, limit)

    async def newest_candles(
        self, symbol: str, timeframe: Timeframe, *, start: float | None = None, end: float | None = None, limit: int
    ) -> list[Candle]:
        """The last `limit` closed candles of the range, oldest first."""
        return await self._reader().newest(symbol, timeframe, start, end, limit)

    async def forming(self, symbol: str, timeframe: Timeframe) -> Candle | None:
        """The newest candle, if it is not closed."""
        return await self._reader().forming(symbol, timeframe)

    async def ticks(self, symbol: str, *, start: float, end: float, limit: int) -> list[Candle]:
        """The first `limit` ticks of the range."""
        return await self._reader().ticks(symbol, start, end, limit)

    async def symbols(self) -> list[str]:
        """Every symbol that has candles."""
        return await self._reader().symbols()

    async def latest(self) -> list[Freshness]:
        """The newest closed candle of each series."""
        return await self._reader().latest()

    async def holes(self, timeframe: Timeframe, *, start: float, end: float) -> list[Hole]:
        """Where closed candles are missing or incomplete: one query for all symbols."""
        return await self._reader().holes(timeframe, start, end)

    async def query(self, text: str) -> str:
        """Run any Flux, with the token that writes; its answer as CSV. StoreUnavailableError also if it is wrong."""
        return await self._answered(self._writer().query(text))

    async def _answered(self, question: Awaitable[AnswerT]) -> AnswerT:
        """The answer; what the server refuses becomes StoreUnavailableError, so that it shows and ends nothing."""
        try:
            return await question
        except RefusedError as error:
            raise StoreUnavailableError(f"{self._location}: {error}") from error

    def _writer(self) -> Server:
        if self._writing is None:
            raise StoreUnavailableError(f"{self._location} is closed")
        return self._writing

    def _candles_writer(self) -> OrderedWriter:
        if self._candles is None:
            raise StoreUnavailableError(f"{self._location} is closed")
        return self._candles

    def _reader(self) -> Reader:
        if self._reading is None:
            raise StoreUnavailableError(f"{self._location} is closed")
        return Reader(self._reading)

    def _setup(self) -> Setup:
        return Setup(self._writer(), self._location, self._access.org, self._retention)


def _sorted_out(candles: Sequence[Candle]) -> tuple[list[Indexed], list[Rejection]]:
    kept: list[Indexed] = []
    rejected: list[Rejection] = []
    for index, candle in enumerate(candles):
        reason = rejection(candle)
        if reason is None:
            kept.append((index, candle))
        else:
            rejected.append(Rejection(index, reason))
    return kept, rejected


def _winners(rows: list[Indexed]) -> list[Indexed]:
    """The row of each identity that the others of the batch give way to."""
    winners: dict[Identity, Indexed] = {}
    for index, candle in rows:
        other = winners.get(identity(candle))
        if other is None or replaces(candle, other[1]):
            winners[identity(candle)] = (index, candle)
    return list(winners.values())


def _oldest_first(rows: list[Indexed]) -> list[Indexed]:
    """So that what is past its retention stands together."""
    return sorted(rows, key=lambda row: row[1].open_time)


def _by_index(rejections: list[Rejection]) -> tuple[Rejection, ...]:
    return tuple(sorted(rejections, key=lambda rejection: rejection.index))
