"""The store as the services see it: a small port with a database behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from ingress_common.model import Candle
from ingress_common.timeframes import Timeframe
from ingress_store.bootstrap import BootstrapResult, BootstrapState
from ingress_store.holes import Hole


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that the store does not take: its place in what was given, and why."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a batch: `taken` counts also the rows that lost to a newer one in the store."""

    taken: int
    rejected_candles: tuple[Rejection, ...] = ()
    rejected_ticks: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class Settlement:
    """What `settle` has done: candles written again, and those that were dropped before they could be looked at."""

    rewritten: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Freshness:
    """The newest closed candle of a symbol and timeframe: its open, and when the gateway received what closed it."""

    symbol: str
    timeframe: Timeframe
    open_time: int
    at: float


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task that runs inside the store: how often it should (seconds), how long after the boundary, and how it went.

    `since`, `last_run`: when it was made, and the time that its last completed run was due (unix seconds; None:
    unknown, never). `error`: of the last run, None if that went well.
    """

    name: str
    every: int
    offset: int
    exists: bool
    active: bool = False
    since: float | None = None
    last_run: float | None = None
    error: str | None = None


class CandleStore(Protocol):
    """Candles and raw ticks by identity: a row that is written again replaces the old one (`ingress_store.ordering`).

    It is opened and closed as an async context manager, each service with its own. Opening raises StoreOpenError where
    the store cannot be used as it is. Every other call raises StoreUnavailableError while the store does not answer;
    nothing else is the caller's business. Instants are unix seconds, and as a bound None means that there is none.
    """

    async def __aenter__(self) -> Self:
        """Open; StoreOpenError if it cannot be used as it is."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        ...

    @property
    def location(self) -> str:
        """Which store it is, for people; without secrets."""
        ...

    async def close(self) -> None:
        """Finish what is being written and release everything; more than once is fine."""
        ...

    async def ping(self) -> None:
        """Return if the store answers."""
        ...

    async def bootstrap(self) -> BootstrapResult:
        """Make what must be there; idempotent, also when two do it at once. Leaves alone what is not ours."""
        ...

    async def inspect(self) -> BootstrapState:
        """What is there, what should be, and the difference; changes nothing."""
        ...

    async def tasks(self) -> list[TaskState]:
        """How the tasks inside the store are doing; empty where there are none."""
        ...

    async def write(self, candles: Sequence[Candle], ticks: Sequence[Candle]) -> WriteResult:
        """Write a batch; what was taken is durable when this returns. Rejected rows do not keep the others out.

        `ticks` are raw 1m states; their identity is (exchange, symbol, at, open_time).
        """
        ...

    async def settle(self) -> Settlement:
        """Look after what this store has written lately: write again what an older version has replaced.

        For stores without conditional writes, where several write at once; to be called every few seconds.
        """
        ...

    async def prune(self) -> int:
        """Remove what is past its retention and say how many rows that were; 0 where the server does it by itself."""
        ...

    async def candles(
        self, symbol: str, timeframe: Timeframe, *, start: float | None = None, end: float | None = None, limit: int
    ) -> list[Candle]:
        """The first `limit` closed candles with start <= open_time < end, oldest first."""
        ...

    async def newest_candles(
        self, symbol: str, timeframe: Timeframe, *, start: float | None = None, end: float | None = None, limit: int
    ) -> list[Candle]:
        """The last `limit` closed candles with start <= open_time < end, oldest first."""
        ...

    async def forming(self, symbol: str, timeframe: Timeframe) -> Candle | None:
        """The candle after the newest closed one, as far as it has got; None if there is none."""
        ...

    async def ticks(self, symbol: str, *, start: float, end: float, limit: int) -> list[Candle]:
        """The first `limit` raw ticks with start <= at < end, oldest first."""
        ...

    async def symbols(self) -> list[str]:
        """Every symbol that has candles, sorted."""
        ...

    async def latest(self) -> list[Freshness]:
        """The newest closed candle of every symbol and timeframe, sorted by symbol, lowest timeframe first."""
        ...

    async def holes(self, timeframe: Timeframe, *, start: float, end: float) -> list[Hole]:
        """Where closed candles are missing or incomplete in [start, end), widened to whole windows.

        Of every symbol, between its first and its last closed candle in the range: what comes after that is no hole,
        `latest` tells it. Sorted by symbol and time, neighbouring windows together.
        """
        ...
