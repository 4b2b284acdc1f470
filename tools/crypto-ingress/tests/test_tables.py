from decimal import Decimal

import pytest

from crypto_ingress.tables import HEADER, OutputError, candle_table
from ingress_common.model import Candle, Source
from ingress_common.timeframes import Timeframe


def candle(**other) -> Candle:
    one = Decimal("1E+1")
    given = dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), one) | other
    return Candle(
        symbol="A/B", timeframe=Timeframe.M1, open_time=60, trades=1, closed=True, infilled=False, complete=True,
        revision=0, source=Source.WS, at=0.0, **given,
    )  # fmt: skip


def test_table_has_the_header_and_plain_decimals(tmp_path):
    with candle_table(tmp_path / "1m.csv") as write:
        write(candle(vwap=Decimal("0.00000001"), volume=Decimal("1E+1") * 0))
    assert (tmp_path / "1m.csv").read_text() == f"{HEADER}\n60,10,10,10,10,0,0.00000001,1,0\n"
    assert HEADER == "time,open,high,low,close,volume,vwap,trades,infilled"


def test_table_appears_only_once_it_is_whole_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "1m.csv"
    with candle_table(path) as write:
        write(candle())
        assert not path.exists()
    assert path.exists()
    assert [file.name for file in path.parent.iterdir()] == ["1m.csv"]


def test_failure_leaves_the_old_table_as_it_was(tmp_path):
    path = tmp_path / "1m.csv"
    path.write_text("old")
    with pytest.raises(AttributeError), candle_table(path) as write:
        write("no candle")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["1m.csv"]


def test_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "1m.csv"
    with pytest.raises(OutputError, match=r"1m\.csv: cannot be written"), candle_table(path):
        pass
