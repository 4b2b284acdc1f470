"""What is special about the SQLite file: its errors, its retention, a kill."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from breaking import mounted, small_disk
from ingress_common.timeframes import Timeframe
from ingress_store import ResourceState, Retention, SqliteStore, StoreOpenError, StoreUnavailableError
from ingress_store.sqlite import queries

DAY = 86400


async def test_digits_round_trip_with_a_decimal_point(tmp_path, candle):
    row = candle(0, volume=Decimal("1E+1"), open=Decimal("0.00000010"), low=Decimal("0.00000010"))
    async with SqliteStore(tmp_path / "c.db") as store:
        await store.write([row], [])
        (found,) = await store.candles("BTC/USD", Timeframe.M1, limit=1)
    assert (str(found.volume), f"{found.open:f}") == ("10.0", "0.00000010")


async def test_a_missing_directory_is_made(tmp_path):
    async with SqliteStore(tmp_path / "a" / "b" / "c.db") as store:
        await store.ping()
    assert (tmp_path / "a" / "b" / "c.db").is_file()


async def test_a_file_that_is_no_database_is_refused_in_one_line_that_names_it(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, just a text that is long enough to be read as a header" * 20)
    with pytest.raises(StoreOpenError, match="notes") as caught:
        async with SqliteStore(path):
            pass
    assert "\n" not in str(caught.value)
    assert path.read_text().startswith("not a database")


@pytest.mark.parametrize("make", ["directory", "under-a-file", "cut"])
async def test_a_path_that_cannot_be_used_is_refused_in_one_line_that_names_it(tmp_path, make):
    path = tmp_path / "here"
    if make == "directory":
        path.mkdir()
    elif make == "under-a-file":
        path.write_text("")
        path = path / "c.db"
    else:
        async with SqliteStore(path):
            pass
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(StoreOpenError, match="here") as caught:
        async with SqliteStore(path):
            pass
    assert "\n" not in str(caught.value)


async def test_database_in_memory_is_refused_in_one_line():
    with pytest.raises(StoreOpenError, match="expected a SQLite file at :memory:"):
        async with SqliteStore(Path(":memory:")):
            pass


async def test_a_file_of_a_newer_version_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "c.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreOpenError, match="newer version"):
        async with SqliteStore(tmp_path / "c.db"):
            pass


async def test_a_file_with_another_table_of_our_name_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "c.db") as connection:
        connection.execute("CREATE TABLE candles (x)")
    connection.close()
    with pytest.raises(StoreOpenError, match="candles"):
        async with SqliteStore(tmp_path / "c.db"):
            pass


async def test_inspection_shows_what_is_missing_and_bootstrap_restores_it(tmp_path):
    async with SqliteStore(tmp_path / "c.db") as store:
        with sqlite3.connect(tmp_path / "c.db") as connection:
            connection.execute("DROP INDEX ticks_by_age")
            connection.execute("CREATE TABLE mine (x)")
        connection.close()
        state = await store.inspect()
        assert not state.complete
        missing = ("index", "ticks_by_age", ResourceState.MISSING)
        assert [(r.kind, r.name, r.state) for r in state.difference] == [missing]
        result = await store.bootstrap()
        assert result.changes == ("created index ticks_by_age",)
        assert result.state.complete
        assert [r.name for r in result.state.resources if r.state is ResourceState.FOREIGN] == ["mine"]


async def test_a_locked_file_is_unavailable_and_can_be_written_later(tmp_path, candle):
    async with SqliteStore(tmp_path / "c.db", busy_seconds=0.05) as store:
        other = sqlite3.connect(tmp_path / "c.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            await store.write([candle(0)], [])
        other.execute("ROLLBACK")
        other.close()
        assert (await store.write([candle(0)], [])).taken == 1


@pytest.mark.parametrize("replaced", [False, True])
async def test_deleted_or_replaced_file_is_unavailable(tmp_path, candle, replaced):
    async with SqliteStore(tmp_path / "c.db") as store:
        (tmp_path / "c.db").rename(tmp_path / "moved.db")
        if replaced:
            async with SqliteStore(tmp_path / "c.db"):
                pass
        for work in (store.ping(), store.write([candle(0)], [])):
            with pytest.raises(StoreUnavailableError, match="replaced" if replaced else r"c\.db"):
                await work


async def test_full_disk_is_unavailable_even_while_the_write_ahead_log_has_room(tmp_path, candle):
    with small_disk(tmp_path / "disk", 16) as disk:
        full = mounted(disk)
        async with SqliteStore(tmp_path / "disk" / "c.db") as store:
            log = tmp_path / "disk" / "c.db-wal"
            size = -1
            while log.stat().st_size > size:  # until its beginning is used again
                size = log.stat().st_size
                for _ in range(100):
                    await store.write([candle(minute) for minute in range(50)], [])
            await store.ping()
            full.fill()
            assert (await store.write([candle(0)], [])).taken == 1
            with pytest.raises(
                StoreUnavailableError, match=r"c\.db: the disk is full: expected .* bytes of room, got 0$"
            ):
                await store.ping()
            full.free()
            await store.ping()


async def test_a_deleted_write_ahead_log_is_unavailable_and_a_restart_has_what_was_written(tmp_path, candle):
    async with SqliteStore(tmp_path / "c.db") as store:
        assert (await store.write([candle(0)], [])).taken == 1
        (tmp_path / "c.db-wal").unlink()
        for work in (store.ping(), store.write([candle(1)], [])):
            with pytest.raises(StoreUnavailableError, match="db-wal"):
                await work
    async with SqliteStore(tmp_path / "c.db") as store:
        assert len(await store.candles("BTC/USD", Timeframe.M1, limit=9)) == 1
        assert (await store.write([candle(1)], [])).taken == 1


async def test_a_link_to_a_file_is_followed(tmp_path, candle):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "c.db").symlink_to(tmp_path / "elsewhere" / "c.db")
    async with SqliteStore(tmp_path / "c.db") as store:
        assert (await store.write([candle(0)], [])).taken == 1


async def test_event_loop_runs_while_the_file_is_busy(tmp_path, candle):
    async with SqliteStore(tmp_path / "c.db") as store:
        other = sqlite3.connect(tmp_path / "c.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(store.write([candle(0)], []))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not writing.done()
        other.execute("ROLLBACK")
        other.close()
        assert (await writing).taken == 1


async def test_retention_counts_from_the_write_not_from_the_candle(tmp_path, candle):
    now = 1_700_000_000.0
    async with SqliteStore(tmp_path / "c.db", clock=lambda: now) as store:
        old = candle(0, open_time=1_600_000_020, at=1_600_000_080.0)
        await store.write([old, candle(0, timeframe=Timeframe.D1)], [candle(0, closed=False)])
        assert await store.prune() == 0
        now += 8 * DAY
        await store.write([candle(5)], [])
        assert await store.prune() == 1
        assert await store.ticks("BTC/USD", start=0, end=2e9, limit=9) == []
        now += 85 * DAY
        assert await store.prune() == 1
        assert await store.candles("BTC/USD", Timeframe.M1, limit=9) == [candle(5)]
        now += 100_000 * DAY
        await store.prune()
        assert [f.timeframe for f in await store.latest()] == [Timeframe.D1]


async def test_pruning_takes_more_rows_than_fit_into_one_step(tmp_path, candle):
    now = 0.0
    retention = Retention.parse("1m=1d")
    async with SqliteStore(tmp_path / "c.db", clock=lambda: now, retention=retention) as store:
        await store.write([candle(n) for n in range(12_000)], [])
        now = 2.0 * DAY
        assert await store.prune() == 12_000
        assert await store.symbols() == []


def test_acknowledged_rows_survive_a_kill_within_a_batch(tmp_path):
    program = textwrap.dedent("""
        import asyncio, itertools, sys
        from msgspec.structs import replace
        from decimal import Decimal
        from pathlib import Path
        from ingress_common.model import Candle, Source
        from ingress_common.timeframes import Timeframe
        from ingress_store import SqliteStore

        async def main():
            d = Decimal("1.0")
            plain = Candle("BTC/USD", Timeframe.M1, 0, d, d, d, d, d, d, 1, True, False, True, 0, Source.WS, 0.0)
            async with SqliteStore(Path(sys.argv[1])) as store:
                for n in itertools.count():
                    rows = [replace(plain, open_time=60 * (500 * n + k)) for k in range(500)]
                    await store.write(rows, [])
                    print(500 * (n + 1), flush=True)

        asyncio.run(main())
    """)
    path = tmp_path / "c.db"
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = 0
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged >= 5_000:
            os.kill(process.pid, signal.SIGKILL)
            break
    acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.stdout.close()
    process.wait()

    async def read():
        async with SqliteStore(path) as store:
            return await store.candles("BTC/USD", Timeframe.M1, limit=10_000_000)

    found = asyncio.run(read())
    assert len(found) >= acknowledged
    assert len(found) % 500 == 0


async def test_cost_of_the_newest_candles_grows_with_series_not_candles(tmp_path, candle):
    path = tmp_path / "c.db"
    steps = []
    async with SqliteStore(path) as store:
        for minute in (20, 400):
            await store.write([candle(n) for n in range(minute)], [])
            with closing(sqlite3.connect(path)) as connection:
                count = 0

                def step() -> int:
                    nonlocal count
                    count += 1
                    return 0

                connection.set_progress_handler(step, 1)
                (newest,) = queries.latest(connection)
            assert newest.open_time == candle(minute - 1).open_time
            steps.append(count)
    assert steps[1] <= steps[0] + 5
