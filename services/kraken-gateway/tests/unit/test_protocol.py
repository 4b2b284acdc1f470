import json
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress_common.model import Source
from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken import protocol
from kraken_gateway.kraken.protocol import (
    Ack,
    Frame,
    Heartbeat,
    InstrumentFrame,
    OhlcFrame,
    Other,
    Pong,
    RateExceeded,
    Refusal,
    SystemStatus,
    Unreadable,
    parse_frame,
    update_key,
)

FILES = (
    "v2_captured_misc_2026-09-25.jsonl",
    "v2_captured_btcusdt_1m_2026-09-10.jsonl",
    "v2_captured_btcusd_1m_2026-10-06.jsonl",
    "v2_captured_other.jsonl",
)


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_frame_is_understood(recorded, name):
    kinds = [parse_frame(line) for line in recorded(name).splitlines() if line]
    assert kinds
    assert not [kind for kind in kinds if isinstance(kind, Unreadable)]
    assert not [bad for kind in kinds if isinstance(kind, OhlcFrame) for bad in kind.bad]


def test_recorded_snapshot_keeps_exact_decimals(recorded):
    lines = recorded("v2_captured_btcusdt_1m_2026-09-10.jsonl").splitlines()
    snapshot = next(f for f in map(parse_frame, lines) if isinstance(f, OhlcFrame) and f.snapshot)
    assert str(snapshot.rows[0].open) == "77400.0"
    assert str(snapshot.rows[0].volume) == "0.25302078"
    assert snapshot.timestamp == pytest.approx(1789062283.105760)
    assert [row.open_time for row in snapshot.rows] == sorted(row.open_time for row in snapshot.rows)


def test_recorded_refusal_without_req_id_names_its_symbol(recorded):
    frames = map(parse_frame, recorded("v2_captured_misc_2026-09-25.jsonl").splitlines())
    refusal = next(f for f in frames if isinstance(f, Refusal))
    assert (refusal.req_id, refusal.symbol, refusal.error) == (
        None,
        "XBT/USD",
        "Currency pair not supported XBT/USD",
    )


def test_connection_id_beyond_64_bits_is_no_obstacle():
    text = '{"channel":"status","type":"update","data":[{"system":"online","connection_id":161745364646902822959999}]}'
    assert parse_frame(text) == SystemStatus("online")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"channel":"heartbeat"}', Heartbeat),
        ('{"channel":"heartbeat","extra":{"deep":[1]}}', Heartbeat),
        ('{"method":"pong","req_id":1,"time_in":"2024-05-20T11:08:49.272922Z"}', Pong),
        ('{"Error":"Exceeded msg rate"}', RateExceeded),
        ('{"error":"Exceeded msg rate","method":"subscribe","success":false}', RateExceeded),
        ('{"channel":"trade","type":"update","data":[]}', Other),
        ('{"something":"new"}', Other),
        ("{}", Other),
        ("upstream connect error", Unreadable),
        ("", Unreadable),
        ("[1,2]", Unreadable),
        ("null", Unreadable),
        ("[" * 5000, Unreadable),
        (b"\x00\x01", Unreadable),
        ('{"channel":"ohlc","type":"update"}', Unreadable),
        ('{"channel":"ohlc","type":"replace","data":[]}', Unreadable),
        (
            '{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[{"symbol":"A/B","status":"online"}]}}',
            InstrumentFrame,
        ),
    ],
)
def test_frames_of_every_kind(text, kind):
    assert isinstance(parse_frame(text), kind)


def test_garbage_that_may_be_candles_is_marked():
    assert not parse_frame("<html>").may_be_data
    assert parse_frame('{"channel":"ohlc","data":[{').may_be_data
    assert parse_frame('{"channel":"ohlc","type":"update","data":[{"open":NaN}]}').may_be_data


def test_one_frame_may_hold_rows_of_several_symbols_and_bad_ones_among_them(frame):
    rows = [
        {"symbol": "BTC/USD", "begin": 60, "volume": "1E+1"},
        {"symbol": "ETH/USD", "begin": 60, "high": "1.0"},
        {"symbol": "SOL/USD", "begin": 120, "interval": 5},
        {"symbol": "ADA/USD", "begin": 120},
    ]
    parsed = parse_frame(frame("update", rows, 130.0))
    assert [row.symbol for row in parsed.rows] == ["BTC/USD", "ADA/USD"]
    assert parsed.rows[0].volume == 10
    assert [bad.symbol for bad in parsed.bad] == ["ETH/USD", "SOL/USD"]


@pytest.mark.parametrize(
    "change",
    [
        {"open": "-1"},
        {"open": '"NaN"'},
        {"high": '"Infinity"'},
        {"close": "1e999999999"},
        {"volume": "null"},
        {"volume": "true"},
        {"low": "200.0"},
        {"high": "1e30", "vwap": "1e30"},
        {"trades": "1.5"},
        {"trades": "-1"},
        {"begin": 61},
        {"begin": 6000},
        {"symbol": "BTC"},
        {"symbol": "A+B/USD"},
        {"interval": 2},
        {"interval": '"one"'},
        {"close": '"NaN"'},
        {"close": '"sNaN"'},
        {"volume": '"-0.1"'},
        {"vwap": "0E-9999"},
        {"vwap": "0." + "1" * 99},
    ],
)
def test_malformed_row_is_a_bad_row(frame, change):
    parsed = parse_frame(frame("update", [{"symbol": "BTC/USD", "begin": 60, **change}], 130.0))
    assert parsed.rows == ()
    assert len(parsed.bad) == 1


def test_numbers_may_have_exponents(frame):
    row = {"symbol": "BTC/USD", "begin": 60, "volume": "2.5E-7", "trades": "3e0", "open": "1E+2"}
    parsed = parse_frame(frame("update", [row], 130.0)).rows[0]
    assert (parsed.volume, parsed.trades, parsed.open) == (Decimal("2.5E-7"), 3, 100)


def test_numbers_may_be_strings_and_intervals_floats(frame):
    row = {"symbol": "BTC/USD", "begin": 60, "close": '"100.00"', "trades": '"3"', "interval": "1.0"}
    parsed = parse_frame(frame("update", [row], 130.0)).rows[0]
    assert (str(parsed.close), parsed.trades, parsed.timeframe) == ("100.00", 3, Timeframe.M1)


def test_row_becomes_a_candle_with_its_exact_numbers(frame):
    row = parse_frame(frame("update", [{"symbol": "BTC/USD", "begin": 60, "volume": "0.10000000"}], 130.0)).rows[0]
    candle = row.candle(Source.WS, closed=False, at=61.5)
    assert (candle.symbol, candle.timeframe, candle.open_time, candle.at) == ("BTC/USD", Timeframe.M1, 60, 61.5)
    assert str(candle.volume) == "0.10000000"


def test_key_of_an_update_is_its_symbol_and_interval(frame):
    one = {"symbol": "BTC/USD", "begin": 60}
    assert update_key(frame("update", [one])) == ("BTC/USD", "1970-01-01T00:01:00Z")
    assert update_key(frame("update", [one, one])) is None
    assert update_key(frame("snapshot", [one])) is None
    assert update_key('{"channel":"heartbeat"}') is None
    assert update_key("<html>") is None


@given(st.text() | st.binary())
def test_no_frame_raises(frame):
    assert isinstance(parse_frame(frame), Frame)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["channel", "type", "data", "symbol", "method", "error", "result", "req_id", "success"]),
            inner | st.sampled_from(["ohlc", "status", "instrument", "subscribe", "pong", "update", True]),
            max_size=6,
        )
    ),
)


@given(JSON)
def test_no_json_raises(value):
    assert isinstance(parse_frame(json.dumps(value)), Frame)


def test_requests_are_as_the_protocol_has_them():
    request = json.loads(protocol.subscribe(protocol.candles(["BTC/USD"], Timeframe.H4), 42))
    assert request == {
        "method": "subscribe",
        "params": {"channel": "ohlc", "symbol": ["BTC/USD"], "interval": 240, "snapshot": True},
        "req_id": 42,
    }
    assert protocol.required_by("wss://ws.kraken.com/v2") == {}
    assert protocol.required_by("wss://uws.kraken.com/v2/public") == {"asset_class": "spot"}
    assert json.loads(protocol.ping(7)) == {"method": "ping", "req_id": 7}


def test_ack_has_symbol_and_time():
    text = (
        '{"method":"subscribe","req_id":42,"result":{"channel":"ohlc","interval":1,"snapshot":true,"symbol":"BTC/USD"},'
        '"success":true,"time_in":"1970-01-01T00:00:01Z","time_out":"1970-01-01T00:00:02Z"}'
    )
    assert parse_frame(text) == Ack("subscribe", 42, "ohlc", "BTC/USD", 2.0)


def test_each_kind_of_frame_has_its_label_in_metrics():
    labels = [kind.label for kind in get_args(protocol.Frame)]
    assert labels == [
        "candles",
        "heartbeat",
        "systemstatus",
        "pong",
        "ack",
        "refusal",
        "rateexceeded",
        "instruments",
        "other",
        "unreadable",
    ]
