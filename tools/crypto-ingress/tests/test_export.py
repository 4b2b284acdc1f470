"""Candles of a store as files: what other programs read is what is stored, to the digit."""

import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from archive_files import rolled_up, write_minutes
from stores import damage
from test_import import START, import_, some_minutes

from crypto_ingress.errors import CommandError
from crypto_ingress.history import exporting
from crypto_ingress.history.commands import Export, export
from crypto_ingress.history.exporting import FileFormat, NumberType
from crypto_ingress.tables import OutputError
from ingress_common.candle_csv import HEADER
from ingress_common.timeframes import Timeframe
from ingress_store import SqliteStore

M1, M5, W1 = Timeframe.M1, Timeframe.M5, Timeframe.W1


@pytest.fixture
def file(tmp_path) -> Path:
    return write_minutes(tmp_path / "XBTUSD_1.csv", some_minutes(count=4000))


@pytest.fixture
async def store(tmp_path, file):
    async with SqliteStore(tmp_path / "candles.db") as opened:
        await opened.bootstrap()
        await import_(opened, file)
        yield opened


async def written(
    store,
    out: Path,
    form: str = "csv",
    numbers: str = "float",
    timeframes=(M1,),
    symbols=("BTC/USD",),
    start=None,
    end=None,
) -> Path:
    wanted = Export(symbols, timeframes, start, end, out, FileFormat(form), NumberType(numbers))
    await export(store, wanted, lambda *_: None)
    return out


def rows_of(frame: pl.DataFrame) -> list[tuple]:
    return [tuple(row) for row in frame.iter_rows()]


@pytest.mark.parametrize("at_once", [100, 50_000])
async def test_csv_has_the_stored_digits(store, tmp_path, file, monkeypatch, at_once):
    monkeypatch.setattr(exporting, "_AT_ONCE", at_once)
    path = await written(store, tmp_path / "1m.csv")
    lines = path.read_text().split("\n")
    assert lines[0] + "\n" == HEADER
    found = [
        (int(time), *map(Decimal, numbers), int(trades), infilled == "1")
        for time, *numbers, trades, infilled in (line.split(",") for line in lines[1:-1])
    ]
    assert found == rolled_up(file)[M1]
    assert all("." in number for line in lines[1:-1] for number in line.split(",")[1:7])


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
async def test_export_follows_a_link_and_refuses_what_is_no_file(store, tmp_path, form):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder / "target")
    await written(store, tmp_path / "link", form)
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in folder.iterdir()] == ["target"]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="got a pipe"):
        await written(store, tmp_path / "pipe", form)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("form", ["parquet", "arrow"])
async def test_columns_have_times_in_utc_and_exact_decimals_or_floats(store, tmp_path, file, form):
    read = pl.read_parquet if form == "parquet" else pl.read_ipc
    exact = read(await written(store, tmp_path / f"exact.{form}", form, "decimal"))
    floats = read(await written(store, tmp_path / f"floats.{form}", form))
    assert exact.columns == HEADER.strip().split(",")
    assert exact.schema["time"] == pl.Datetime("ms", "UTC")
    assert (exact.schema["open"], exact.schema["volume"]) == (pl.Decimal(38, 2), pl.Decimal(38, 5))
    assert floats.schema["open"] == pl.Float64
    expected = rolled_up(file)[M1]
    assert rows_of(exact.with_columns(pl.col("time").dt.epoch("s"))) == expected
    assert [row[1:6] for row in rows_of(floats)] == [tuple(map(float, row[1:6])) for row in expected]
    assert exact["time"][0] == datetime.fromtimestamp(START, UTC)


async def test_several_series_go_into_a_folder(store, tmp_path):
    await written(store, tmp_path / "out", timeframes=(M5, W1))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["BTC-USD-1w.csv", "BTC-USD-5m.csv"]


async def test_range_takes_its_start_and_not_its_end(store, tmp_path):
    path = await written(store, tmp_path / "1m.csv", start=START + 60, end=START + 180)
    assert [line.split(",")[0] for line in path.read_text().split()[1:]] == [str(START + 60), str(START + 120)]


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
async def test_range_without_candles_is_a_file_without_rows(store, tmp_path, form):
    path = await written(store, tmp_path / f"x.{form}", form, end=START - 60)
    if form == "csv":
        assert path.read_text() == HEADER
    else:
        frame = (pl.read_parquet if form == "parquet" else pl.read_ipc)(path)
        assert (frame.height, frame.columns) == (0, HEADER.strip().split(","))


async def test_unknown_symbol_is_named_with_the_known_ones(store, tmp_path):
    with pytest.raises(CommandError, match="ETH/USD, only of these symbols: BTC/USD"):
        await written(store, tmp_path / "x.csv", symbols=("ETH/USD",))


async def test_numbers_of_an_earlier_version_get_their_point(store, tmp_path):
    sql = "UPDATE candles SET open = '100', high = '1E+3', volume = '1E-8' WHERE timeframe = '1m' AND open_time = ?"
    await store._run(lambda connection: connection.execute(sql, (START,)))
    path = await written(store, tmp_path / "1m.csv", end=START + 60)
    assert path.read_text().split("\n")[1].split(",")[1:6] == ["100.0", "1000.0", "99.25", "101.50", "0.00000001"]


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
@pytest.mark.parametrize("text", ["abc", "", "inf"])
async def test_stored_price_that_is_no_number_is_named_and_leaves_no_file(store, tmp_path, form, text):
    await damage(store, M1, START + 60, high=text)
    with pytest.raises(
        CommandError, match=rf"^BTC/USD 1m 2023-02-02T00:01:00Z: expected a number as high, got '{text}'$"
    ):
        await written(store, tmp_path / f"1m.{form}", form)
    assert not list(tmp_path.glob("1m*"))
