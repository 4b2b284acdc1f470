from decimal import Decimal
from pathlib import Path

import pytest

from crypto_ingress.archive import ArchiveError, read_archive
from ingress_common.model import Source
from ingress_common.timeframes import Timeframe

GOOD = "1672531200,16535.97,16536.10,16522.66,16522.66,0.01429883,2\n"


def archive(folder: Path, content: str | bytes) -> Path:
    path = folder / "minutes.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_row_becomes_a_closed_1m_candle_with_its_exact_digits(tmp_path):
    (candle,) = read_archive(archive(tmp_path, GOOD), "BTC/USDC", at=7.0)
    assert (candle.symbol, candle.timeframe, candle.open_time) == ("BTC/USDC", Timeframe.M1, 1672531200)
    numbers = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    assert [str(n) for n in numbers] == ["16535.97", "16536.10", "16522.66", "16522.66", "0.01429883"]
    assert (candle.trades, candle.closed, candle.infilled, candle.complete) == (2, True, False, True)
    assert (candle.source, candle.at) == (Source.ARCHIVE, 7.0)


@pytest.mark.parametrize(("text", "volume"), [("1E+1", "10"), ("6", "6"), ("1e-8", "0.00000001"), ("0", "0")])
def test_volume_may_be_an_integer_or_have_an_exponent(tmp_path, text, volume):
    (candle,) = read_archive(archive(tmp_path, f"60,1,1,1,1,{text},1\n"), "A/B", at=0)
    assert candle.volume == Decimal(volume)


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\r\n", "\n   \n"])
def test_file_may_end_with_or_without_blank_lines(tmp_path, ending):
    assert len(list(read_archive(archive(tmp_path, GOOD.strip() + ending), "A/B", at=0))) == 1


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("1672531260,1,1,1,1,1", "7 columns"),
        ("1672531260,1,1,1,1,1,1,1", "7 columns"),
        ("hello", "7 columns"),
        ("time,open,high,low,close,volume,trades", "numbers"),
        ("1672531260,x,1,1,1,1,1", "numbers"),
        ("1672531260,,1,1,1,1,1", "numbers"),
        ("1672531260,1,1,1,1,1,1.5", "numbers"),
        ("1672531260.5,1,1,1,1,1,1", "numbers"),
        ("1_672_531_260,1,1,1,1,1,1", "numbers"),
        ("1672531260,1_0,1_0,1_0,1_0,1,1", "numbers"),
        ("1672531261,1,1,1,1,1,1", "whole minute"),
        ("-60,1,1,1,1,1,1", "whole minute"),
        ("1672531260000,1,1,1,1,1,1", "whole minute"),
        ("1672531260,NaN,1,1,1,1,1", "finite"),
        ("1672531260,1,Infinity,1,1,1,1", "finite"),
        ("1672531260,1,1,1,1,1E+999999,1", "finite"),
        ("1672531260,1,1,2,1,1,1", "low <= open, close <= high"),
        ("1672531260,1,0.5,0.5,0.5,1,1", "low <= open, close <= high"),
        ("1672531260,-1,1,-1,1,1,1", "low <= open, close <= high"),
        ("1672531260,1,1,1,1,-1,1", "volume of 0 or more"),
        ("1672531260,1,1,1,1,1,0", "at least 1 trade"),
        ("1672531260,1,1,1,1,1,-1", "at least 1 trade"),
        ("1672531200,1,1,1,1,1,1", "a time after 1672531200"),
        ("1672531140,1,1,1,1,1,1", "a time after 1672531200"),
    ],
)
def test_bad_row_names_file_line_what_was_expected_and_what_came(tmp_path, row, expected):
    path = archive(tmp_path, f"{GOOD}{row}\n")
    with pytest.raises(ArchiveError) as caught:
        list(read_archive(path, "A/B", at=0))
    text = str(caught.value)
    assert text.startswith(f"{path}, line 2: expected")
    assert expected in text
    assert (row if "after" not in expected and "minute" not in expected else row.split(",")[0]) in text


def test_bytes_that_are_no_text_are_a_bad_row(tmp_path):
    with pytest.raises(ArchiveError, match=r"line 2: expected .*, got bytes that are not text"):
        list(read_archive(archive(tmp_path, GOOD.encode() + b"\xff\xfe,1,1,1,1,1,1\n"), "A/B", at=0))


def test_rows_before_a_bad_one_are_given_first(tmp_path):
    rows = read_archive(archive(tmp_path, f"{GOOD}nonsense\n"), "A/B", at=0)
    assert next(rows).open_time == 1672531200
    with pytest.raises(ArchiveError):
        next(rows)


@pytest.mark.parametrize(
    "header", ["time,open,high,low,close,volume,trades\n", "\ufefftime,open,high,low,close,vol,count\n", "\ufeff"]
)
def test_header_and_byte_order_mark_are_no_rows(tmp_path, header):
    rows = list(read_archive(archive(tmp_path, header + GOOD), "A/B", at=0))
    assert [row.open_time for row in rows] == [1672531200]


def test_header_of_other_columns_is_refused(tmp_path):
    path = archive(tmp_path, "time,open,high,low,close,vwap,volume,count\n" + GOOD)
    with pytest.raises(
        ArchiveError, match=r"expected the columns time,.* got the header 'time,open,high,low,close,vwap"
    ):
        list(read_archive(path, "A/B", at=0))


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_file_is_named(tmp_path, content):
    path = archive(tmp_path, content)
    with pytest.raises(ArchiveError, match="the file is empty") as caught:
        list(read_archive(path, "A/B", at=0))
    assert str(path) in str(caught.value)


def test_missing_file_and_directory_are_named(tmp_path):
    with pytest.raises(ArchiveError, match=r"missing\.csv: cannot be read: No such file"):
        list(read_archive(tmp_path / "missing.csv", "A/B", at=0))
    with pytest.raises(ArchiveError, match="cannot be read: Is a directory"):
        list(read_archive(tmp_path, "A/B", at=0))


def test_vwap_is_exact_where_the_minute_has_one_price_and_between_low_and_high_elsewhere(tmp_path):
    one, several = read_archive(archive(tmp_path, "60,5,5,5,5,1,3\n120,5,9,4,6,1,3\n"), "A/B", at=0)
    assert one.vwap == 5
    assert several.low <= several.vwap <= several.high


def test_progress_gets_the_bytes_read(tmp_path):
    path = archive(tmp_path, GOOD)
    reported = []
    list(read_archive(path, "A/B", 0, reported.append))
    assert reported[-1] == path.stat().st_size
