"""What is noticed of a store: that it does not answer queries, and that somebody has changed it."""

import asyncio
import time
from pathlib import Path

from admin_api.admin import bootstrap
from admin_api.admin.bootstrap import StoreMonitor
from ingress_common.timeframes import Timeframe
from ingress_store import BootstrapState, Comparison, SqliteStore, StoreUnavailableError, TaskState
from waiting import until


class Unreadable(SqliteStore):
    """A store whose queries fail while it is `down`."""

    down = True

    async def newest_closed(self, timeframe: Timeframe, *, since: float) -> dict[str, int]:
        if self.down:
            raise StoreUnavailableError("the queue of queries is full")
        return await super().newest_closed(timeframe, since=since)


async def test_store_without_query_responses_is_red(tmp_path: Path):
    async with Unreadable(tmp_path / "candles.db") as store:
        monitor = StoreMonitor(store, every_seconds=0.0)
        running = asyncio.create_task(monitor.run())
        await until(lambda: monitor.check.detail == "the queue of queries is full")
        assert not monitor.check.ok
        store.down = False
        await until(lambda: monitor.check.ok)
        running.cancel()
        await asyncio.wait([running])


class Failing(SqliteStore):
    """A store with a task that works, one that has failed, and one that has failed and was switched off.

    A run that `succeeds` ends the failure.
    """

    succeeds = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.error: str | None = "no bucket"
        self.runs: list[str] = []

    async def tasks(self) -> list[TaskState]:
        states = (("works", True, None), ("failed", True, self.error), ("off", False, "no bucket"))
        return [
            TaskState(name, 300, 30, exists=True, active=active, last_run=time.time(), error=error)
            for name, active, error in states
        ]

    async def run_task(self, name: str) -> None:
        self.runs.append(name)
        if self.succeeds:
            self.error = None


async def test_failed_task_is_rerun_until_it_succeeds(tmp_path: Path, monkeypatch):
    for name in ("_TASKS_SECONDS", "_RETRY_SECONDS"):
        monkeypatch.setattr(bootstrap, name, 0.0)
    async with Failing(tmp_path / "candles.db") as store:
        monitor = StoreMonitor(store, every_seconds=0.0)
        running = asyncio.create_task(monitor.run())
        await until(lambda: len(store.runs) >= 3)
        assert monitor.tasks[1].error == "no bucket"
        store.succeeds = True
        await until(lambda: monitor.tasks[1].error is None)
        running.cancel()
        await asyncio.wait([running])
    assert set(store.runs) == {"failed"}


class Changed(SqliteStore):
    """A store in which somebody has changed a bucket and a task."""

    async def inspect(self) -> BootstrapState:
        bucket = Comparison("bucket", "candles_1m", {"retention_seconds": 7776000}, {"retention_seconds": 3600})
        task = Comparison("task", "rollup_5m", {"flux": "x" * 500}, {"flux": "y"})
        return BootstrapState("changed", (bucket, task))


async def test_changed_resource_is_a_warning(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(bootstrap, "_INSPECT_SECONDS", 0.0)
    async with Changed(tmp_path / "candles.db") as store:
        monitor = StoreMonitor(store, every_seconds=0.0)
        running = asyncio.create_task(monitor.run())
        await until(lambda: monitor.warnings)
        running.cancel()
        await asyncio.wait([running])
    assert monitor.check.ok
    assert monitor.warnings == (
        "bucket candles_1m was changed: retention_seconds 3600, expected 7776000; POST /bootstrap changes it back",
        "task rollup_5m was changed: flux; POST /bootstrap changes it back",
    )
