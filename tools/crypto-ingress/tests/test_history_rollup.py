"""Archive files rolled up in columns: against Kraken's own files, the aggregator's core, and a plain computation."""

from decimal import Decimal
from pathlib import Path

import pytest
from archive_files import rolled_up, write_minutes
from core_rollup import roll_up_archive
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crypto_ingress.archive import read_archive
from crypto_ingress.history import weeks
from ingress_common.timeframes import TIMEFRAMES, Timeframe

ARCHIVE = Path(__file__).parents[3].parent / "shared" / "data" / "archive"
_OF_MINUTES = {5: Timeframe.M5, 15: Timeframe.M15, 60: Timeframe.H1, 1440: Timeframe.D1}


def by_the_core(path: Path) -> dict[Timeframe, list[tuple]]:
    found: dict[Timeframe, list[tuple]] = {timeframe: [] for timeframe in TIMEFRAMES}
    for c in roll_up_archive("A/B", read_archive(path, "A/B", at=4e9)):
        found[c.timeframe].append((c.open_time, c.open, c.high, c.low, c.close, c.volume, c.vwap, c.trades, c.infilled))
    return found


@pytest.fixture(scope="module")
def month() -> dict[Timeframe, list[tuple]]:
    file = ARCHIVE / "XBTUSDC_1.csv"
    if not file.exists():
        pytest.skip(f"no real archive file: expected {file.name} in ../shared/data/archive")
    return rolled_up(file)


@pytest.mark.parametrize("minutes", [1, 5, 15, 60, 1440])
def test_roll_up_of_a_real_month_equals_krakens_own_candles(month, minutes):
    traded = [row for row in month[_OF_MINUTES.get(minutes, Timeframe.M1)] if row[7]]
    expected = [line.split(",") for line in (ARCHIVE / f"XBTUSDC_{minutes}.csv").read_text().split()]
    assert len(traded) == len(expected)
    for ours, (time, o, h, low, c, volume, trades) in zip(traded, expected, strict=True):
        assert ours[:5] == (int(time), *map(Decimal, (o, h, low, c)))
        assert ours[7] == int(trades)
        assert abs(ours[5] - Decimal(volume)) <= Decimal("1e-8")


def test_roll_up_of_a_real_month_equals_the_aggregators_core_to_the_digit(month):
    assert month == by_the_core(ARCHIVE / "XBTUSDC_1.csv")


_GAPS = st.one_of(st.integers(1, 9), st.sampled_from([30, 61, 719, 721, 1439, 1440, 1441, 2881, 10_081]))
# Up to seven digits before the point and ten behind it: price times volume fits into the columns.
_DECIMAL = st.tuples(st.integers(0, 10**9), st.integers(0, 10)).map(
    lambda n: Decimal(n[0] % 10 ** (7 + n[1])).scaleb(-n[1])
)
_ROWS = st.lists(
    st.tuples(_GAPS, st.lists(_DECIMAL, min_size=2, max_size=5), _DECIMAL, st.integers(1, 9)), min_size=1, max_size=25
)


def minutes_of(start: int, rows: list[tuple]) -> list[tuple]:
    found, time = [], start * 60
    for gap, prices, volume, trades in rows:
        time += gap * 60
        found.append((time, prices[0], max(prices), min(prices), prices[-1], volume, trades))
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(23_000_000, 26_000_000), rows=_ROWS, at_once=st.sampled_from([1, 2, 20]))
def test_roll_up_in_columns_equals_the_aggregators_core(tmp_path, monkeypatch, start, rows, at_once):
    # Decimals come with and without exponents, prices of one file with many scales, pieces of weeks in all sizes.
    monkeypatch.setattr(weeks, "WEEKS_AT_ONCE", at_once)
    path = write_minutes(tmp_path / "minutes.csv", minutes_of(start, rows))
    assert rolled_up(path) == by_the_core(path)


def test_blocks_may_end_anywhere(tmp_path, monkeypatch):
    rows = minutes_of(
        27_000_000, [(1 + i % 7, [Decimal(i + 1), Decimal(2 * i + 1) / 8], Decimal(i), 1 + i % 3) for i in range(500)]
    )
    path = write_minutes(tmp_path / "minutes.csv", rows)
    whole = rolled_up(path)
    for size in (50, 333, 4_096):
        monkeypatch.setattr("crypto_ingress.history.pieces._BLOCK_BYTES", size)
        assert rolled_up(path) == whole
