"""REST responses, recorded and made up."""

import json
from decimal import Decimal

import msgspec
import pytest

from ingress_common.timeframes import Timeframe
from kraken_gateway.backfill.responses import candles_of
from kraken_gateway.kraken.rest import (
    InvalidArgumentsError,
    KrakenAilingError,
    Pair,
    RestError,
    ThrottledError,
    TooManyRequestsError,
    Trade,
    UnknownPairError,
    parse_envelope,
    parse_ohlc,
    parse_pairs,
    parse_trades,
)


def raw(value: object) -> msgspec.Raw:
    """`value` as it comes out of an envelope."""
    return msgspec.Raw(json.dumps(value).encode())


def test_minutes_rebuilt_from_recorded_trades_equal_krakens_own(recorded):
    ohlc = parse_ohlc(parse_envelope(200, recorded("rest_ohlc_XBTUSDT_1m.json").encode()), Timeframe.M1)
    page = parse_trades(parse_envelope(200, recorded("rest_trades_XBTUSDT.json").encode()))
    pair = parse_pairs(parse_envelope(200, recorded("rest_asset_pairs.json").encode()))["BTC/USDT"]
    assert pair.name == "XBTUSDT"
    rebuilt = {row.open_time: row for row in candles_of("BTC/USDT", page.trades, pair.price_decimals)}
    compared = 0
    for row in ohlc:
        mine = rebuilt.get(row.open_time)
        # The first minute of the page is cut.
        if mine is None or row.open_time == min(rebuilt) or row.trades == 0:
            continue
        assert (str(mine.open), str(mine.high), str(mine.low), str(mine.close), str(mine.vwap)) == (
            str(row.open),
            str(row.high),
            str(row.low),
            str(row.close),
            str(row.vwap),
        )
        assert (mine.volume, mine.trades) == (row.volume, row.trades)
        compared += 1
    assert compared > 100


def test_recorded_ohlc_is_infilled_and_ends_with_the_forming_row(recorded):
    rows = parse_ohlc(parse_envelope(200, recorded("rest_ohlc_XBTUSDT_1m.json").encode()), Timeframe.M1)
    assert len(rows) == 721
    assert sum(row.trades == 0 for row in rows) == 216


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b'{"error":["EGeneral:Too many requests"]}', TooManyRequestsError),
        (429, b"error code: 1015", TooManyRequestsError),
        (200, b'{"error":["EService:Unavailable"]}', KrakenAilingError),
        (503, b"<html>", KrakenAilingError),
        (502, b'{"error":[]}', KrakenAilingError),
        (200, b"\xff", KrakenAilingError),
        (200, b"[]", RestError),
        (200, b'{"error":["EGeneral:Invalid arguments"]}', InvalidArgumentsError),
        (200, b'{"error":["EGeneral:Internal error"]}', RestError),
    ],
)
def test_temporary_failure_is_a_rest_error(status, body, kind):
    with pytest.raises(RestError) as caught:
        parse_envelope(status, body)
    assert caught.type is kind


def test_unknown_pair_is_its_own_error():
    with pytest.raises(UnknownPairError):
        parse_envelope(200, b'{"error":["EQuery:Unknown asset pair"]}')


@pytest.mark.parametrize(
    "row",
    [
        [60],
        [61, "1", "1", "1", "1", "1", "1", 1],
        [60, "1", "0.5", "1", "1", "1", "1", 1],
        [60, "x"] + ["1"] * 5 + [1],
        7,
    ],
)
def test_ohlc_row_that_is_no_candle_fails_the_call(row):
    with pytest.raises(RestError):
        parse_ohlc(raw({"XXBTZUSD": [row], "last": 60}), Timeframe.M1)


def test_names_of_rest_become_those_of_websocket():
    pairs = parse_pairs(
        raw(
            {
                "XXBTZUSD": {"altname": "XBTUSD", "wsname": "XBT/USD", "pair_decimals": 1},
                "XDGXBT": {"altname": "XDGXBT", "wsname": "XDG/XBT", "pair_decimals": 8},
                "DARK.d": {"altname": "DARK.d"},
            }
        )
    )
    assert {name: pair.name for name, pair in pairs.items()} == {"BTC/USD": "XBTUSD", "DOGE/BTC": "XDGXBT"}


def test_vwap_is_cut_and_not_rounded():
    result = {"X": [["10.00000", "1.0", 61.5, "b", "l", "", 1], ["10.29999", "1.0", 62, "b", "l", "", 2]], "last": "62"}
    page = parse_trades(raw(result))
    assert candles_of("A/B", page.trades, 2)[0].vwap == Decimal("10.14")


def test_trades_without_last_are_the_last_page():
    assert parse_trades(raw({"X": [], "last": ""})).last is None
    assert parse_trades(raw({"X": [], "last": None})).last is None
    assert parse_trades(raw({"X": []})).last is None
    assert parse_trades(raw({"X": [], "last": 5})).last == 5


def test_trades_without_a_number_are_read():
    rows = [["10.5", "0.2", 61.5, "s", "l", ""], ["10.4", "0.1", 61.5, "s", "l", ""]]
    assert parse_trades(raw({"X": rows, "last": "61500000000"})).trades == (
        Trade(0, Decimal("61.5"), Decimal("10.5"), Decimal("0.2")),
        Trade(0, Decimal("61.5"), Decimal("10.4"), Decimal("0.1")),
    )


@pytest.mark.parametrize("last", ["soon", "-1", "1.5", "\u00b2", "1" * 5_000])
def test_last_that_is_no_time_fails_the_call(last):
    with pytest.raises(RestError):
        parse_trades(raw({"X": [], "last": last}))


@pytest.mark.parametrize(("end", "until"), [(": 1796000000", 1796000000.0), ("", 0.0), (": nan", 0.0)])
def test_throttled_is_a_rate_limit_with_its_end(end, until):
    with pytest.raises(ThrottledError) as caught:
        parse_envelope(200, f'{{"error":["EService:Throttled{end}"]}}'.encode())
    assert caught.value.until == until


def test_pair_has_its_asset_class_and_needs_no_status():
    entry = {"altname": "AAPLxUSD", "wsname": "AAPLx/USD", "aclass_base": "tokenized_asset", "pair_decimals": 2}
    pairs = parse_pairs(raw({"AAPLx/USD": entry}))
    assert pairs == {"AAPLx/USD": Pair("AAPLxUSD", 2, asset_class="tokenized_asset")}


@pytest.mark.parametrize("keys", [("AAPLxUSD", "AAPLSPVUSD"), ("AAPLSPVUSD", "AAPLxUSD")])
def test_pair_listed_twice_is_the_one_keyed_by_altname(keys):
    entry = {"altname": "AAPLxUSD", "wsname": "AAPLx/USD", "aclass_base": "tokenized_asset"}
    details = {
        "AAPLxUSD": {"pair_decimals": 2, "status": "online"},
        "AAPLSPVUSD": {"pair_decimals": 5, "status": "cancel_only"},
    }
    pairs = parse_pairs(raw({key: entry | details[key] for key in keys}))
    assert pairs == {"AAPLx/USD": Pair("AAPLxUSD", 2, asset_class="tokenized_asset")}


@pytest.mark.parametrize("decimals", ["1", 1.0])
def test_pair_whose_decimals_are_a_text_or_a_float_is_read(decimals):
    entry = {"altname": "XBTUSD", "wsname": "XBT/USD", "pair_decimals": decimals}
    assert parse_pairs(raw({"XXBTZUSD": entry})) == {"BTC/USD": Pair("XBTUSD", 1)}
