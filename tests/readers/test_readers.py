"""What docs/reading.md says of other tools, row by row and block by block, with the versions of requirements.lock.

They are in an environment of their own (`make readers`), because they are large and none of our business.
"""

import asyncio
import json
import os
import re
import subprocess
import tomllib
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from archive_files import write_minutes

from crypto_ingress.history.commands import Export, export
from crypto_ingress.history.exporting import FileFormat, NumberType
from crypto_ingress.history.files import find_files
from crypto_ingress.history.importing import Importer
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import InfluxAccess, InfluxStore, Retention, SqliteStore
from servers import missing

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "reading.md").read_text()
SCRIPTS = tomllib.loads((HERE / "scripts.toml").read_text())
PYTHON = Path(os.environ.get("READERS_PYTHON", HERE.parents[1] / ".venv-readers" / "bin" / "python"))
FREQTRADE = HERE.parents[1] / ".venv-peers" / "bin" / "python"
START = 2770 * Timeframe.W1.seconds + 3 * 86_400  # a Sunday
DAYS = 25

needs_readers = pytest.mark.usefixtures("readers")
pytestmark = pytest.mark.timeout(300)


def minutes() -> list[tuple]:
    """Four weeks that begin on a Sunday, without trades for minutes at a time, with volumes beyond float precision."""
    rows = []
    for minute in range(DAYS * 1440):
        if minute // 8 * 7919 % 97 < 30:
            price = 16_500 + (minute * 31) % 977 / 100
            volume = Decimal((minute * 104_729) % 99_999_989 + 1).scaleb(-8)
            rows.append(
                (START + 60 * minute, f"{price:.2f}", f"{price + 1:.2f}", f"{price - 1:.2f}", f"{price:.2f}", volume, 3)
            )
    return rows


@pytest.fixture(scope="module")
def readers() -> None:
    if not PYTHON.exists():
        missing("readers", "make readers-venv")


@pytest.fixture(scope="module")
def rows() -> list[tuple]:
    return minutes()


@pytest.fixture(scope="module")
def files(tmp_path_factory, rows) -> Path:
    """The files that the page speaks of."""
    folder = tmp_path_factory.mktemp("readers")
    asyncio.run(write_files(folder, rows))
    return folder


async def write_files(folder: Path, rows: list[tuple]) -> None:
    archive = write_minutes(folder / "archive" / "XBTUSD_1.csv", rows)
    async with SqliteStore(folder / "candles.db") as store:
        await store.bootstrap()
        await Importer(store, lambda: 4e9, lambda *_: None).run("BTC/USD", find_files([archive], None).files)
        for timeframe in TIMEFRAMES:
            for form in (FileFormat.CSV, FileFormat.PARQUET):
                out = folder / f"{timeframe.value}.{form.value}"
                await export(
                    store,
                    Export(("BTC/USD",), (timeframe,), None, None, out, form, NumberType.DECIMAL),
                    lambda *_: None,
                )
    return folder


WITHOUT_TEARDOWN = """
import os, sys
sys.stdout.flush()
os._exit(0)
"""
"""Arrow's threads can abort a process while it ends, after all of its work: https://github.com/apache/arrow/issues/34314"""


def run(folder: Path, code: str, python: Path = PYTHON) -> str:
    command = [python, "-W", "ignore", "-c", code + WITHOUT_TEARDOWN]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def table(name: str) -> list[list[str]]:
    text = PAGE.partition(f"<!-- {name} -->\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n")[2:]]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# --- weeks ------------------------------------------------------------------------------------------------------------


def weeks_of(folder: Path) -> list[int]:
    return [int(line.split(",")[0]) for line in (folder / "1w.csv").read_text().split()[1:]]


@needs_readers
@pytest.mark.parametrize("row", [row for row in table("weeks") if row[0] in SCRIPTS["weeks"]], ids=lambda row: row[0])
async def test_weeks(files, row):
    rights, wrongs = codes(row[1]), codes(row[2])
    # One process, because the imports take longest.
    script = "\n".join(SCRIPTS["weeks"][row[0]].replace("CODE", code) for code in (*rights, *wrongs))
    found = [json.loads(line) for line in run(files, script).split("\n")]
    assert len(found) == len(rights) + len(wrongs)
    expected = weeks_of(files)
    for code, weeks in zip(rights, found, strict=False):
        assert weeks == expected, code
    for code, weeks in zip(wrongs, found[len(rights) :], strict=True):
        assert weeks != expected, code


def test_every_row_of_the_weeks_is_run():
    assert {row[0] for row in table("weeks")} == {*SCRIPTS["weeks"], "Flux", "InfluxQL"}


async def test_weeks_of_influxdb(files, influx_place):
    org = f"test-{uuid4().hex[:12]}"
    kept = Retention(dict.fromkeys(TIMEFRAMES))
    access = InfluxAccess(org, influx_place.token)
    async with InfluxStore(influx_place.store_url, access, retention=kept) as store:
        await store.bootstrap()
        archive = find_files([files / "archive"], None).files
        await Importer(store, lambda: 4e9, lambda *_: None).run("BTC/USD", archive)
    flux, influxql = (codes(row[1])[0] for row in table("weeks") if row[0] in ("Flux", "InfluxQL"))
    url, headers = influx_place.url.replace("influxdb", "http", 1), {"Authorization": f"Token {influx_place.token}"}
    query = (
        f'from(bucket: "candles_1d") |> range(start: {START}, stop: {START + DAYS * 86_400})'
        f' |> filter(fn: (r) => r._field == "trades") |> {flux} |> keep(columns: ["_time"])'
        " |> map(fn: (r) => ({w: int(v: r._time) / 1000000000}))"
    )
    async with httpx.AsyncClient(headers=headers) as http:
        answer = await http.post(
            f"{url}/api/v2/query", params={"org": org}, content=query, headers={"Content-Type": "application/vnd.flux"}
        )
        found = [int(line.split(",")[-1]) for line in answer.text.split()[1:] if line.strip(",")]
        # The first window begins with the range.
        assert found[1:] == weeks_of(files)[1:]
        text = f"SELECT count(trades) FROM candle WHERE time >= {START}s AND time < {START + DAYS * 86_400}s {influxql}"
        # InfluxQL knows the buckets of the token's own organisation, so the reader's token asks.
        known = (await http.get(f"{url}/api/v2/authorizations", params={"org": org})).json()["authorizations"]
        reader = next(token["token"] for token in known if token["description"] == "crypto-ingress reader")
        parameters = {"db": "candles_1d", "q": text, "epoch": "s"}
        http.headers["Authorization"] = f"Token {reader}"
        result = (await http.get(f"{url}/query", params=parameters)).json()["results"][0]
        assert "series" in result, result
        (series,) = result["series"]
    assert [time for time, _ in series["values"]] == weeks_of(files)


# --- exact numbers, infilled minutes, recipes -------------------------------------------------------------------------


@needs_readers
async def test_exact_numbers(files, rows):
    lines = [codes(row[1])[0] for row in table("exact")]
    assert len(lines) >= 12
    sums = "\n".join(f"print({line})" for line in lines)
    found = run(files, SCRIPTS["exact"]["any"].replace("CODE", sums)).split("\n")
    for line, number in zip(lines, found, strict=True):
        assert Decimal(number) == sum(row[5] for row in rows), line


@needs_readers
@pytest.mark.parametrize("row", table("infilled"), ids=lambda row: row[0])
async def test_infilled_minutes(files, row):
    residues = int(run(files, SCRIPTS["infilled"][row[0].partition(" ")[0]]))
    assert (residues == 0) == (row[1] == "0"), residues


RECIPES = dict(re.findall(r"<!-- recipe: (\S+) -->\n```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@needs_readers
@pytest.mark.parametrize("name", RECIPES)
async def test_recipe(files, name):
    assert run(files, RECIPES[name])


@needs_readers
async def test_freqtrade_loads_the_file_of_its_recipe(files):
    if not FREQTRADE.exists():
        missing("freqtrade", "make peers-venv")
    run(files, RECIPES["freqtrade"])
    load = (
        "from pathlib import Path\n"
        "from freqtrade.data.history import load_pair_history\n"
        'candles = load_pair_history("BTC/USD", "1h", Path("."), data_format="feather", fill_up_missing=False)\n'
        'seconds = candles["date"].map(lambda date: int(date.timestamp()))\n'
        "print(candles.assign(date=seconds).to_csv(index=False))"
    )
    found = run(files, load, FREQTRADE).split("\n")
    expected = (files / "1h.csv").read_text().split()
    assert found[0] == "date,open,high,low,close,volume"
    assert [[float(cell) for cell in line.split(",")] for line in found[1:] if line] == [
        [float(cell) for cell in line.split(",")[:6]] for line in expected[1:]
    ]
