"""The store as the services see it: a small port with a database behind it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from ingress_common.gaps import Gap
from ingress_common.model import Candle
from ingress_common.timeframes import Timeframe
from ingress_store.bootstrap import BootstrapResult, BootstrapState
from ingress_store.bulk import BulkSeries


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected row: its index in the batch, and the reason."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The result of a batch; `taken` includes rows that lost to a newer one in the store.

    `unstored_candles`: the indices of candles that the store does not accept now; `problem`, which concerns their
    timeframe alone, gives the reason.
    """

    taken: int
    rejected_candles: tuple[Rejection, ...] = ()
    rejected_ticks: tuple[Rejection, ...] = ()
    unstored_candles: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Freshness:
    """The newest closed candle of a symbol and timeframe: its open time, and its `at`."""

    symbol: str
    timeframe: Timeframe
    open_time: int
    at: float


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task that runs inside the store: its interval and its offset after the boundary (seconds), and its last run.

    `since`: when it was created (unix seconds; None if unknown). `last_run`: when its last completed run was due (None:
    never). `error`: of the last run; None if it succeeded.
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
    """Candles and raw ticks by identity: writing a row again replaces it (`ingress_store.ordering`).

    One writer per symbol at a time: two that write different versions of a candle at once may leave the older one.

    It is opened and closed as an async context manager, each service with its own. Opening raises StoreOpenError where
    the store cannot be used as it is. Every other call raises StoreUnavailableError while the store does not answer; it
    raises no other error. Instants are unix seconds; a bound of None is no limit.
    """

    async def __aenter__(self) -> Self:
        """Open the store; StoreOpenError if it cannot be used as it is."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        ...

    @property
    def location(self) -> str:
        """The store's address for people, without secrets."""
        ...

    async def close(self) -> None:
        """Finish the running write and release everything. May be called more than once."""
        ...

    async def ping(self) -> None:
        """Return if the store answers and has room; StoreUnavailableError if not."""
        ...

    async def bootstrap(self) -> BootstrapResult:
        """Create the missing resources; idempotent, also when two run at once. Does not touch foreign resources."""
        ...

    async def inspect(self) -> BootstrapState:
        """Compare the existing with the expected resources; changes nothing."""
        ...

    async def tasks(self) -> list[TaskState]:
        """The state of the tasks inside the store; empty if it has none."""
        ...

    async def run_task(self, name: str) -> None:
        """Run one of `tasks` now, beside its schedule."""
        ...

    async def write(self, candles: Sequence[Candle], ticks: Sequence[Candle]) -> WriteResult:
        """Write a batch; the rows taken are durable when this returns. Rejected and unstored rows do not affect the
        others.

        `ticks` are raw 1m states; their identity is (exchange, symbol, at, open_time).
        """
        ...

    def series(self, symbol: str, timeframe: Timeframe) -> BulkSeries:
        """The candles of one series, for bulk work: import, export, verification."""
        ...

    async def recall(self, symbols: Collection[str], timeframe: Timeframe, *, start: float, end: float) -> None:
        """Read which versions of the candles with start <= open_time < end are stored, so that older versions written
        later do not replace them.

        A store without conditional writes remembers only its own recent writes.
        """
        ...

    async def prune(self) -> int:
        """Delete expired rows; returns how many. 0 if the server does this itself."""
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
        """The forming candle after the newest closed one; None without one."""
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

    async def newest_closed(self, timeframe: Timeframe, *, since: float) -> dict[str, int]:
        """The open time of every symbol's newest closed candle, of those that open at `since` or later.

        One cheap query for all symbols if `since` is recent.
        """
        ...

    async def gaps(self, timeframe: Timeframe, *, start: float, end: float) -> list[Gap]:
        """Where closed candles are missing or incomplete in [start, end), widened to whole windows.

        Of every symbol, between its first and its last closed candle in the range: time after that is no gap (see
        `latest`). Sorted by symbol and time, neighbouring windows merged.
        """
        ...
