"""The import as a process that is killed, or whose disk is full: repeated, it ends with the same store."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from archive_files import rolled_up, write_minutes
from stores import KEPT, all_as_kept, stored
from test_import import some_minutes

from breaking import mounted, small_disk
from command import Running, crypto_ingress
from ingress_common.timeframes import Timeframe
from ingress_store import CandleStore, InfluxAccess, InfluxStore, SqliteStore
from proxy import StallingProxy

EVER = 4_000_000_000


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """Twelve weeks."""
    return write_minutes(tmp_path_factory.mktemp("archive") / "XBTUSD_1.csv", some_minutes(count=60_000))


async def minutes_in(store: CandleStore) -> int:
    return await store.series("BTC/USD", Timeframe.M1).count(0, EVER)


async def has_minutes(store: CandleStore, minutes: int, importing: Running) -> bool:
    """Wait until the store has so many minutes; False if the import has ended before."""
    while importing.process.returncode is None:
        if await minutes_in(store) >= minutes:
            return True
        await asyncio.sleep(0.005)
    return False


async def test_repeatedly_killed_import_into_sqlite_ends_with_the_same_store(file, tmp_path):
    settings = {"STORE_URL": f"sqlite:///{tmp_path}/candles.db"}
    kills = 0
    async with SqliteStore(tmp_path / "candles.db") as store:
        await store.bootstrap()
        for minutes in (0, 1, 60_000):
            async with Running("import", "crypto_ingress", "import", file, folder=tmp_path, **settings) as run:
                if await has_minutes(store, minutes, run):
                    await run.kill()
                    kills += 1
        assert kills >= 2
        await resumed(store, file, tmp_path, settings)


async def test_repeatedly_killed_import_into_influxdb_ends_with_the_same_store(influx_place, tmp_path):
    file = write_minutes(tmp_path / "XBTUSD_1.csv", some_minutes(count=16_000))
    org = f"test-{uuid4().hex[:12]}"
    settings = {"INFLUX_ORG": org, "INFLUX_TOKEN": influx_place.token, "RETENTION": KEPT.text}
    server = urlsplit(influx_place.url)
    async with InfluxStore(influx_place.store_url, InfluxAccess(org, influx_place.token), retention=KEPT) as store:
        await store.bootstrap()
        # In the first request, between two of the same timeframe, in one of a higher timeframe.
        for writes in (1, 3, 6):
            async with StallingProxy(server.hostname, server.port, b"POST /api/v2/write", writes) as proxy:
                url = f"influxdb://127.0.0.1:{proxy.port}"
                arguments = ("import", "crypto_ingress", "import", file)
                async with Running(*arguments, folder=tmp_path, STORE_URL=url, **settings) as run:
                    await asyncio.wait_for(proxy.stalled.wait(), 120)
                    await run.kill()
        await resumed(store, file, tmp_path, {"STORE_URL": influx_place.url, **settings})


async def resumed(store: CandleStore, file: Path, folder: Path, settings: dict[str, str]) -> None:
    """Run the import to its end and compare the store with what an undisturbed one makes."""
    done = crypto_ingress("import", file, folder=folder, **settings)
    assert done.returncode == 0, done.stderr
    assert await stored(store) == all_as_kept(store, rolled_up(file))
    verified = crypto_ingress("verify", file, folder=folder, **settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr


async def test_full_disk_is_named_and_a_larger_one_gets_the_rest(file, tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk, 8) as small:
        larger = mounted(small).enlarge
        settings = {"STORE_URL": f"sqlite:///{disk}/candles.db"}
        done = crypto_ingress("import", file, folder=tmp_path, **settings)
        assert done.returncode == 1
        assert len(done.stderr.strip().split("\n")) == 1
        assert all(part in done.stderr for part in ("BTC/USD", "full", "repeat the import")), done.stderr
        async with SqliteStore(disk / "candles.db") as store:
            assert await minutes_in(store) > 0
        larger(64)
        assert crypto_ingress("import", file, folder=tmp_path, **settings).returncode == 0
        async with SqliteStore(disk / "candles.db") as store:
            assert await stored(store) == rolled_up(file)


def test_export_to_a_full_disk_is_named_and_leaves_no_file(file, tmp_path):
    settings = {"STORE_URL": f"sqlite:///{tmp_path}/candles.db"}
    assert crypto_ingress("import", file, folder=tmp_path, **settings).returncode == 0
    disk = tmp_path / "disk"
    with small_disk(disk, 2) as small:
        mounted(small)
        for form in ("csv", "parquet", "arrow"):
            out = disk / f"1m.{form}"
            done = crypto_ingress(
                "export", "--symbol", "BTC/USD", "--timeframe", "1m", "--out", out, folder=tmp_path, **settings
            )
            assert done.returncode == 1, form
            assert str(out) in done.stderr
            assert len(done.stderr.strip().split("\n")) == 1, done.stderr
            assert list(disk.iterdir()) == []
