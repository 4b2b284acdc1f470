"""Payloads: exact both ways; invalid ones are refused with a reason."""

import json
import re
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingress_common import payloads as p
from ingress_common.candle_csv import csv_row
from ingress_common.model import (
    Candle,
    FeedCondition,
    FeedState,
    History,
    HistoryRequest,
    InstanceState,
    Range,
    SeedRequest,
    Source,
    Status,
    Watermark,
)
from ingress_common.payloads import PayloadError
from ingress_common.timeframes import Timeframe

any_time = settings(deadline=None)
"""Whatever else the machine does meanwhile."""

prices = st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=8)
instants = st.integers(0, 4_000_000_000_000_000).map(lambda us: us / 1e6)
texts = st.text(max_size=20)

EXAMPLE = (
    b'{"exchange":"kraken","symbol":"BTC/USD","timeframe":"5m","open_time":"2024-02-25T02:15:00Z",'
    b'"close_time":"2024-02-25T02:20:00Z","open":51600.1,"high":51610.0,"low":51600.1,"close":51605.2,'
    b'"volume":1.20480000,"vwap":51604.3,"trades":17,"closed":true,"infilled":false,"complete":true,'
    b'"revision":0,"source":"rollup","at":"2024-02-25T02:20:01.104211Z"}'
)


@st.composite
def candles(draw, timeframe=None, symbol="BTC/USD"):
    timeframe = timeframe or draw(st.sampled_from(Timeframe))
    low, a, b, high = sorted(draw(st.lists(prices, min_size=4, max_size=4)))
    open_time = timeframe.floor(draw(st.integers(0, 4_000_000_000)))
    return Candle(
        symbol=symbol,
        timeframe=timeframe,
        open_time=open_time,
        open=a,
        high=high,
        low=low,
        close=b,
        volume=draw(prices),
        vwap=draw(prices),
        trades=draw(st.integers(0, 2**63 - 1)),
        closed=draw(st.booleans()),
        infilled=draw(st.booleans()),
        complete=draw(st.booleans()),
        revision=draw(st.integers(0, 99)),
        source=draw(st.sampled_from(Source)),
        at=max(draw(instants), open_time - 86_400.0),
    )


def test_candle_is_written_as_in_the_contract():
    assert p.encode_candle(p.decode_candle(EXAMPLE)) == EXAMPLE


@any_time
@given(candles())
def test_candle_round_trips_to_the_digit(candle):
    decoded = p.decode_candle(p.encode_candle(candle))
    assert decoded == candle
    assert [f"{v:f}" for v in (decoded.open, decoded.volume)] == [f"{v:f}" for v in (candle.open, candle.volume)]
    json.loads(p.encode_candle(candle))


@any_time
@given(st.lists(candles(Timeframe.M1), max_size=5), instants, instants)
def test_history_round_trips(rows, a, b):
    history = History("BTC/USD", Timeframe.M1, Source.REST, Range(min(a, b), max(a, b)), tuple(rows))
    assert p.decode_history(p.encode_history(history)) == history


@any_time
@given(texts, instants, texts)
def test_other_payloads_round_trip(text, instant, reason):
    state = FeedState(text, FeedCondition.LIVE, instant, ("BTC/USD",), {"XBT/USD": reason})
    assert p.decode_feed_state(p.encode_feed_state(state)) == state
    mark = Watermark(text, instant, instant)
    assert p.decode_watermark(p.encode_watermark(mark)) == mark
    seed = SeedRequest(("BTC/USD", "ETH/USD"))
    assert p.decode_seed_request(p.encode_seed_request(seed)) == seed
    request = HistoryRequest(("BTC/USD",), Timeframe.H4, 1.5, 61.5)
    assert p.decode_history_request(p.encode_history_request(request)) == request
    status = Status("aggregator", text, InstanceState.ONLINE, "0.1.0", instant, {"symbols": ["BTC/USD"]})
    assert p.decode_status(p.encode_status(status)) == status


@any_time
@given(st.binary(max_size=50))
def test_dead_letter_keeps_any_payload(payload):
    dead = p.dead_letter("a/b", payload, "reason", 1.5)
    decoded = p.decode_dead_letter(p.encode_dead_letter(dead))
    assert decoded == dead


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"open":51600.1', b'"open":"x"', "Candle"),
        (b'"trades":17,', b"", "trades"),
        (b'"trades":17', b'"trades":-1', "int` >= 0.*trades"),
        (b'"revision":0', b'"revision":1000000001', "int` <= 1000000000.*revision"),
        (b'"trades":17', b'"trades":99999999999999999999', "Candle|trades"),
        (b'"high":51610.0', b'"high":51600.0', "low <= open, close <= high"),
        (b'"high":51610.0', b'"high":1e999999999', "30 digits"),
        (b'"low":51600.1', b'"low":-1', "30 digits"),
        (b'"volume":1.20480000', b'"volume":1e-999999', "30 digits"),
        (b"02:15:00Z", b"02:16:00Z", "aligned to 5m"),
        (b'"5m"', b'"7m"', "'7m'.*timeframe.*there are: 1m, 5m, 15m, 1h, 4h, 1d, 1w$"),
        (b"BTC/USD", b"BTC+USD", "symbol such as BTC/USD"),
        (b"kraken", b"binance", "'binance'.*exchange.*there are: kraken$"),
        (b"02:15:00Z", b"02:15:00", "offset"),
        (b"2024-02-25T02:15:00Z", b"1969-12-31T23:55:00Z", "time from 1970 to 2199.*open_time"),
        (b"2024-02-25T02:15:00Z", b"0001-01-01T00:00:00+14:00", "time from 1970 to 2199.*open_time"),
        (b"2024-02-25T02:15:00Z", b"0000-01-01T00:00:00Z", "RFC 3339.*open_time"),
        (b"2024-02-25T02:20:01.104211Z", b"2200-01-01T00:00:00Z", "time from 1970 to 2199.*at"),
        (b"2024-02-25T02:20:01.104211Z", b"2024-02-24T02:14:59Z", "open_time before at"),
        (b"BTC/USD", b"B" * 65 + b"/USD", "at most 64 characters"),
        (b"BTC/USD", b"B\\u0022TC/USD", "symbol such as BTC/USD"),
        (b"BTC/USD", b"BTC\\u0000/USD", "symbol such as BTC/USD"),
        (b'"open":51600.1', b'"open":' + b"5" * 70, "30 digits"),
        (b'{"exchange"', b'{"x":"' + b" " * 17_000 + b'","exchange"', "at most 16384 bytes"),
    ],
)
def test_impossible_candle_is_refused_with_the_reason(old, new, reason):
    with pytest.raises(PayloadError, match=reason):
        p.decode_candle(EXAMPLE.replace(old, new))


def test_every_field_of_few_values_names_them():
    feed, status, history = (
        b'{"feed":"f","state":"dead","since":"2024-02-25T02:15:00Z"}',
        b'{"service":"s","instance":"i","state":"dead","version":"1","started_at":"2024-02-25T02:15:00Z"}',
        b'{"symbol":"BTC/USD","timeframe":"5m","source":"nobody"}',
    )
    for decode, payload, values in (
        (p.decode_feed_state, feed, "'dead' - at `$.state`; there are: live, down"),
        (p.decode_status, status, "'dead' - at `$.state`; there are: online, offline"),
        (
            p.decode_history,
            history,
            "'nobody' - at `$.source`; there are: ws, snapshot, rest, trades, archive, infill, rollup",
        ),
    ):
        with pytest.raises(PayloadError, match=re.escape(values)):
            decode(payload)


DECODERS = (
    p.decode_candle,
    p.decode_history,
    p.decode_feed_state,
    p.decode_watermark,
    p.decode_seed_request,
    p.decode_history_request,
    p.decode_status,
    p.decode_dead_letter,
)
ENCODERS = (
    p.encode_candle,
    p.encode_history,
    p.encode_feed_state,
    p.encode_watermark,
    p.encode_seed_request,
    p.encode_history_request,
    p.encode_status,
    p.encode_dead_letter,
)
T = "2024-02-25T02:15:00Z"
CANDLE = json.loads(EXAMPLE)
SERIES = {name: CANDLE[name] for name in ("exchange", "symbol", "timeframe", "source")}
VALID = (
    CANDLE,
    {**SERIES, "covers": {"from": T, "to": T}, "candles": [CANDLE]},
    {"feed": "g-0", "state": "live", "since": T, "symbols": ["BTC/USD"], "rejected": {"A/B": "why"}},
    {"feed": "g-0", "watermark": T, "at": T},
    {"symbols": ["BTC/USD"]},
    {"symbols": ["BTC/USD"], "timeframe": "1m", "from": T, "to": T},
    {"service": "aggregator", "instance": "a", "state": "online", "version": "1", "started_at": T, "details": {}},
    {"topic": "a/b", "payload": "x", "reason": "why", "at": T},
)
"""A payload of each kind, in the order of DECODERS."""

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from([10**400, 1e308, -1, T, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2024-02-25T02:15:00"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def decoded_or_refused(payload: bytes) -> None:
    """Every decoder returns a value that can be encoded, or raises PayloadError; anything else fails the test."""
    for decode in DECODERS:
        encode = getattr(p, decode.__name__.replace("decode", "encode"))
        try:
            value = decode(payload)
        except PayloadError:
            continue
        assert decode(encode(value)) == value


@pytest.mark.parametrize("number", [b"5" * 1_000_000, b'"' + b"5" * 1_000_000 + b'"'])
def test_refusal_reason_is_brief_for_any_payload(number):
    row = EXAMPLE.replace(b'"open":51600.1', b'"open":' + number)
    history = json.dumps({**VALID[1], "candles": []}).encode().replace(b"[]", b"[" + row + b"]")
    with pytest.raises(PayloadError) as caught:
        p.decode_history(history)
    assert len(str(caught.value)) < 1_100


@any_time
@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_payload_error_only(payload):
    for decode in DECODERS:
        with pytest.raises(PayloadError):
            decode(payload)


def test_each_example_round_trips():
    for decode, encode, example in zip(DECODERS, ENCODERS, VALID, strict=True):
        assert json.loads(encode(decode(json.dumps(example).encode()))) == example


@any_time
@given(st.sampled_from(VALID), st.data())
def test_a_payload_with_anything_in_place_of_a_field_is_refused_or_a_valid_value(example, data):
    field = data.draw(st.sampled_from([*example, "unknown"]))
    decoded_or_refused(json.dumps({**example, field: data.draw(json_values)}).encode())


@any_time
@given(st.sampled_from(VALID), st.data())
def test_a_payload_that_is_cut_or_has_other_bytes_in_it_is_refused_or_a_valid_value(example, data):
    payload = json.dumps(example).encode()
    at = data.draw(st.integers(0, len(payload)))
    decoded_or_refused(payload[:at] + data.draw(st.binary(max_size=4)) + payload[at + data.draw(st.integers(0, 4)) :])


@pytest.mark.parametrize("value", [b"1" * 5_000, b"[" * 10_000 + b"]" * 10_000, b'"\xff"', b'"\\ud800"', b"NaN", b"-"])
def test_a_status_with_a_detail_that_cannot_be_read_is_refused(value):
    with pytest.raises(PayloadError):
        p.decode_status(json.dumps(VALID[6]).encode().replace(b"{}", value))


@pytest.mark.parametrize(
    ("decode", "example", "changes"),
    [
        (p.decode_history, VALID[1], {"candles": [CANDLE] * 20_001}),
        (p.decode_feed_state, VALID[2], {"symbols": ["A/B"] * 1_001}),
        (p.decode_feed_state, VALID[2], {"rejected": {f"A{n}/B": "" for n in range(1_001)}}),
        (p.decode_feed_state, VALID[2], {"rejected": {"A/B": "x" * 2_001}}),
        (p.decode_feed_state, VALID[2], {"feed": "x" * 201}),
        (p.decode_watermark, VALID[3], {"feed": "x" * 201}),
        (p.decode_seed_request, VALID[4], {"symbols": ["A/B"] * 5_001}),
        (p.decode_history_request, VALID[5], {"symbols": ["A/B"] * 5_001}),
        (p.decode_history_request, VALID[5], {"from": "1901-01-01T00:00:00Z"}),
        (p.decode_status, VALID[6], {"instance": "x" * 201}),
        (p.decode_status, VALID[6], {"details": "x" * 600_000}),
        (p.decode_dead_letter, VALID[7], {"reason": "x" * 2_001}),
        (p.decode_dead_letter, VALID[7], {"payload": "x" * 131_073}),
    ],
)
def test_oversized_payload_is_refused(decode, example, changes):
    with pytest.raises(PayloadError, match=r"20000|1000|2000|200|5000|1970|524288|131072"):
        decode(json.dumps({**example, **changes}).encode())


@pytest.mark.parametrize(
    "payload", [b"x" * 4_000_000, b"\xff" * 4_000_000, "\u20ac".encode() * 1_000_000, b"\0" * 4_000_000]
)
def test_dead_letter_of_a_huge_message_is_truncated_and_deliverable(payload):
    dead = p.dead_letter("t" * 65_535, payload, "why " * 10_000, 1.5)
    encoded = p.encode_dead_letter(dead)
    assert p.decode_dead_letter(encoded) == dead
    assert len(encoded) < 500_000
    assert f"payload of {len(payload)} bytes cut to {p.DEAD_LETTER_BYTES}" in dead.reason


def test_a_cut_through_a_character_leaves_the_text_before_it():
    dead = p.dead_letter("t", b"x" + "\u20ac".encode() * 30_000, "why", 1.5)
    assert dead.payload == "x" + "\u20ac" * (p.DEAD_LETTER_BYTES // 3)


def test_a_status_on_the_topic_of_another_instance_is_refused():
    payload = json.dumps(VALID[6]).encode()
    assert p.decode_status_on("ingress/status/aggregator/a", payload).instance == "a"
    for topic in ("ingress/status/aggregator/b", "ingress/status/influx-writer/a", "a"):
        with pytest.raises(PayloadError, match="expected the status of"):
            p.decode_status_on(topic, payload)


def test_deeply_nested_json_is_refused():
    for decode in DECODERS:
        for payload in (b"[" * 100_000, b'{"a":' * 100_000, b'{"symbols":' + b"[" * 10_000 + b"]" * 10_000 + b"}"):
            with pytest.raises(PayloadError):
                decode(payload)


def test_history_with_a_row_of_another_symbol_is_refused():
    rows = p.encode_history(History("ETH/USD", Timeframe.M5, Source.REST, Range(0, 1), (p.decode_candle(EXAMPLE),)))
    with pytest.raises(PayloadError, match="expected rows of ETH/USD 5m, got BTC/USD 5m"):
        p.decode_history(rows)


@pytest.mark.parametrize(
    ("number", "text"),
    [("77400", "77400.0"), ("0", "0.0"), ("0E-8", "0.00000000"), ("1.2E-7", "0.00000012"), ("1E+3", "1000.0")],
)
def test_numbers_have_a_decimal_point_and_no_exponent(number, text):
    candle = p.decode_candle(EXAMPLE)
    whole = msgspec.structs.replace(candle, volume=Decimal(number))
    assert f'"volume":{text},' in p.encode_candle(whole).decode()
    assert csv_row(whole).split(",")[5] == text


@any_time
@given(candles())
def test_every_number_of_a_payload_is_read_as_a_float(candle):
    read = json.loads(p.encode_candle(candle))
    assert all(type(read[name]) is float for name in ("open", "high", "low", "close", "volume", "vwap"))
