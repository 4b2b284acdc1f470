"""The check of the store is red when the store answers, but not its queries."""

import asyncio
from pathlib import Path

from admin_api.admin.bootstrap import StoreMonitor
from ingress_common.timeframes import Timeframe
from ingress_store import SqliteStore, StoreUnavailableError
from waiting import until


class Unreadable(SqliteStore):
    """A store whose queries fail while it is `down`."""

    down = True

    async def newest_closed(self, timeframe: Timeframe, *, since: float) -> dict[str, int]:
        if self.down:
            raise StoreUnavailableError("the queue of queries is full")
        return await super().newest_closed(timeframe, since=since)


async def test_a_store_that_answers_no_queries_is_red_until_it_does(tmp_path: Path):
    async with Unreadable(tmp_path / "candles.db") as store:
        monitor = StoreMonitor(store, lambda: None)
        running = asyncio.create_task(monitor.run())
        await until(lambda: monitor.check.detail == "the queue of queries is full")
        assert not monitor.check.ok
        store.down = False
        await until(lambda: monitor.check.ok)
        running.cancel()
        await asyncio.wait([running])
