"""The import as a process that is killed, or whose disk is full: repeated, it ends with the same store."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from archive_files import rolled_up, write_minutes
from stores import KEPT, all_as_kept, stored
from test_import import some_minutes

from command import Running, crypto_ingress
from ingress_common.timeframes import Timeframe
from ingress_store import CandleStore, InfluxAccess, InfluxStore, SqliteStore
from servers import InfluxPlace

ROWS = 25_000
EVER = 4_000_000_000
KEPT_TEXT = "1m=forever,5m=forever,15m=forever,1h=forever"


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """Five weeks."""
    return write_minutes(tmp_path_factory.mktemp("archive") / "XBTUSD_1.csv", some_minutes(count=ROWS))


class _Place:
    """A store, and the settings that name it to the command."""

    def __init__(self, folder: Path, influx: InfluxPlace | None) -> None:
        self._path = folder / "candles.db"
        self._influx = influx
        self._org = f"test-{uuid4().hex[:12]}"

    def open(self) -> SqliteStore | InfluxStore:
        if self._influx is None:
            return SqliteStore(self._path)
        return InfluxStore(self._influx.url, InfluxAccess(self._org, self._influx.token), retention=KEPT)

    @property
    def settings(self) -> dict[str, str]:
        if self._influx is None:
            return {"STORE_URL": f"sqlite:///{self._path}"}
        url, token = self._influx.url, self._influx.token
        return {"STORE_URL": url, "INFLUX_ORG": self._org, "INFLUX_TOKEN": token, "RETENTION": KEPT_TEXT}


@pytest.fixture(params=["sqlite", "influx"])
async def place(request, tmp_path) -> _Place:
    influx = request.getfixturevalue("influx_place") if request.param == "influx" else None
    found = _Place(tmp_path, influx)
    async with found.open() as store:
        await store.bootstrap()
    return found


async def count(store: CandleStore) -> int:
    """The number of minutes."""
    return await store.series("BTC/USD", Timeframe.M1).count(0, EVER)


async def count_at_least(store: CandleStore, candles: int, importing: Running) -> bool:
    """Wait until the store has so many candles; False if the import has ended before."""
    while importing.process.returncode is None:
        if await count(store) >= candles:
            return True
        await asyncio.sleep(0.1)
    return False


async def test_import_that_is_killed_again_and_again_ends_with_the_same_store(place, file, tmp_path):
    candles = len(rolled_up(file)[Timeframe.M1])
    kills = 0
    async with place.open() as store:
        for part in (0, 0.2, 0.7):
            async with Running("import", "crypto_ingress", "import", file, folder=tmp_path, **place.settings) as run:
                if await count_at_least(store, int(part * candles), run):
                    await run.kill()
                    kills += 1
        assert kills == 3
        done = crypto_ingress("import", file, folder=tmp_path, **place.settings)
        assert done.returncode == 0, done.stderr
        assert await stored(store) == all_as_kept(store, rolled_up(file))
        verified = crypto_ingress("verify", file, folder=tmp_path, **place.settings)
        assert verified.returncode == 0, verified.stdout + verified.stderr


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[None]:
    """A file system of its own at `folder`; skips without the right to mount one."""
    folder.mkdir()
    size = f"size={mebibytes}m"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a small file system needs the right to mount: run as root, outside of a container")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def enlarge(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)


async def test_full_disk_is_named_and_a_larger_one_gets_the_rest(file, tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk, 4):
        settings = {"STORE_URL": f"sqlite:///{disk}/candles.db"}
        done = crypto_ingress("import", file, folder=tmp_path, **settings)
        assert done.returncode == 1
        assert len(done.stderr.strip().split("\n")) == 1
        assert all(part in done.stderr for part in ("BTC/USD", "full", "run the import once more")), done.stderr
        async with SqliteStore(disk / "candles.db") as store:
            assert await count(store) > 0
        enlarge(disk)
        assert crypto_ingress("import", file, folder=tmp_path, **settings).returncode == 0
        async with SqliteStore(disk / "candles.db") as store:
            assert await stored(store) == rolled_up(file)


def test_export_to_a_full_disk_is_named_and_leaves_no_file(file, tmp_path):
    settings = {"STORE_URL": f"sqlite:///{tmp_path}/candles.db"}
    assert crypto_ingress("import", file, folder=tmp_path, **settings).returncode == 0
    disk = tmp_path / "disk"
    with small_disk(disk, 2):
        for form in ("csv", "parquet", "arrow"):
            out = disk / f"1m.{form}"
            done = crypto_ingress(
                "export", "--symbol", "BTC/USD", "--timeframe", "1m", "--out", out, folder=tmp_path, **settings
            )
            assert done.returncode == 1, form
            assert str(out) in done.stderr
            assert len(done.stderr.strip().split("\n")) == 1, done.stderr
            assert list(disk.iterdir()) == []
