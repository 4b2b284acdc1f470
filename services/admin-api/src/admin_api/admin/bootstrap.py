"""Monitors the store and its tasks, and creates missing resources."""

import asyncio
import time
from collections.abc import Callable

from ingress_common.health import Check
from ingress_common.logs import get_logger
from ingress_common.timeframes import Timeframe
from ingress_store import (
    BootstrapResult,
    CandleStore,
    Comparison,
    ResourceState,
    StoreUnavailableError,
    TaskState,
)

_EVERY_SECONDS = 2.0
_PATIENCE_SECONDS = 5.0
_BOOTSTRAP_SECONDS = 60.0
_TASKS_SECONDS = 5.0
_INSPECT_SECONDS = 5.0
_RETRY_SECONDS = 20.0
_SHOWN = 40

_AFTER_ALL = 8e9
"""Unix seconds after every candle: a query from there on reads nothing, and fails if the store answers no queries."""

_NOT_YET = Check("store", ok=False, detail="not checked yet")

log = get_logger(__name__)


class StoreMonitor:
    """Pings and queries the store every `every_seconds`. Bootstraps it once it answers, and again whenever a resource
    was deleted.

    Retries failed tasks of the store.
    """

    def __init__(self, store: CandleStore, every_seconds: float = _EVERY_SECONDS) -> None:
        self._store = store
        self._deletion_listeners: list[Callable[[], None]] = []
        self._every_seconds = every_seconds
        self._one_at_a_time = asyncio.Lock()
        self._bootstrapped = False
        self._tasks_read_at: float | None = None
        self._retry_at: dict[str, float] = {}  # by the name of a failed task
        self._inspected_at: float | None = None
        self.check = _NOT_YET
        self.tasks: tuple[TaskState, ...] = ()
        self.warnings: tuple[str, ...] = ()
        """Resources that were changed since the bootstrap."""

    def is_ready(self) -> bool:
        """Whether the store answers."""
        return self.check.ok

    def on_deleted(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every deletion of a bucket or table, because rows are lost with it."""
        self._deletion_listeners.append(listener)

    async def run(self) -> None:
        """Monitor until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._store.ping()
                async with asyncio.timeout(_BOOTSTRAP_SECONDS):
                    await self._bootstrap_if_missing()
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._read_tasks()
                    await self._store.newest_closed(Timeframe.M1, since=_AFTER_ALL)
            except (StoreUnavailableError, TimeoutError) as error:
                text = str(error) or "no response in time"
                self._note(Check("store", ok=False, detail=text))
            else:
                self._note(Check("store", ok=True, detail=self._store.location))
            await asyncio.sleep(self._every_seconds)

    async def bootstrap(self) -> BootstrapResult:
        """Create the store's resources, one call at a time; StoreUnavailableError if the store does not answer."""
        async with self._one_at_a_time:
            result = await self._store.bootstrap()
        self._bootstrapped = result.state.complete
        self.warnings = ()
        self._tasks_read_at = None
        for change in result.changes:
            log.info("store.bootstrapped", change=change)
        return result

    async def _bootstrap_if_missing(self) -> None:
        """Bootstrap at the start, and whenever a resource other than the organisation was deleted. A resource that was
        changed stays as it is until the next start, because the change may be intended.
        """
        now = time.monotonic()
        if self._bootstrapped and self._inspected_at is not None and now - self._inspected_at < _INSPECT_SECONDS:
            return
        if self._bootstrapped:
            difference = (await self._store.inspect()).difference
            missing = [row for row in difference if row.state is ResourceState.MISSING]
            self.warnings = tuple(_changed(row) for row in difference if row.state is ResourceState.DIFFERENT)
            for row in missing:
                if row.kind == "organization":
                    # One beside a renamed one would start empty, and the candles would seem to be lost.
                    raise StoreUnavailableError(
                        f"the organisation {row.name} is gone: rename it back, or make a new one by POST /bootstrap"
                    )
                log.warning("store.missing", kind=row.kind, name=row.name)
            if missing:
                self._bootstrapped = False
                self._note(Check("store", ok=False, detail=f"{missing[0].kind} {missing[0].name} has been deleted"))
                for listener in self._deletion_listeners:
                    listener()
        if not self._bootstrapped:
            await self.bootstrap()
        self._inspected_at = now

    async def _read_tasks(self) -> None:
        now = time.monotonic()
        if self._tasks_read_at is None or now - self._tasks_read_at >= _TASKS_SECONDS:
            self.tasks = tuple(await self._store.tasks())
            self._tasks_read_at = now
            await self._run_failed_tasks(now)

    async def _run_failed_tasks(self, now: float) -> None:
        """Retry failed tasks: their next scheduled run may be hours away, and the cause may be over."""
        failed = {task.name for task in self.tasks if task.exists and task.active and task.error is not None}
        self._retry_at = {name: self._retry_at.get(name, now) for name in failed}
        for name, due in self._retry_at.items():
            if now >= due:
                self._retry_at[name] = now + _RETRY_SECONDS
                await self._store.run_task(name)

    def _note(self, check: Check) -> None:
        if check.ok != self.check.ok or self.check is _NOT_YET:
            log.log(20 if check.ok else 30, "store.checked", ok=check.ok, detail=check.detail)
        self.check = check


def _changed(row: Comparison) -> str:
    expected, found = row.expected or {}, row.found or {}
    # A task's text is long.
    parts = [
        f"{name} {found.get(name)}, expected {value}" if len(str(value)) <= _SHOWN else name
        for name, value in expected.items()
        if found.get(name) != value
    ]
    return f"{row.kind} {row.name} was changed: {'; '.join(parts)}; POST /bootstrap changes it back"
