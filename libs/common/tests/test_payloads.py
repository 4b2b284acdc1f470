"""Payloads: exact both ways, and refused with a reason where they could not be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress_common import payloads as p
from ingress_common.model import (
    Candle,
    FeedCondition,
    FeedState,
    History,
    HistoryRequest,
    Presence,
    Range,
    SeedRequest,
    Source,
    Status,
    Watermark,
)
from ingress_common.payloads import PayloadError
from ingress_common.timeframes import Timeframe

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
    return Candle(
        symbol=symbol,
        timeframe=timeframe,
        open_time=timeframe.floor(draw(st.integers(0, 4_000_000_000))),
        open=a,
        high=high,
        low=low,
        close=b,
        volume=draw(prices),
        vwap=draw(prices),
        trades=draw(st.integers(0, 2**63)),
        closed=draw(st.booleans()),
        infilled=draw(st.booleans()),
        complete=draw(st.booleans()),
        revision=draw(st.integers(0, 99)),
        source=draw(st.sampled_from(Source)),
        at=draw(instants),
    )


def test_candle_is_written_as_in_the_contract():
    assert p.encode_candle(p.decode_candle(EXAMPLE)) == EXAMPLE


@given(candles())
def test_candle_comes_back_as_it_was_to_the_digit(candle):
    again = p.decode_candle(p.encode_candle(candle))
    assert again == candle
    assert [f"{v:f}" for v in (again.open, again.volume)] == [f"{v:f}" for v in (candle.open, candle.volume)]
    json.loads(p.encode_candle(candle))


@given(st.lists(candles(Timeframe.M1), max_size=5), instants, instants)
def test_history_comes_back_as_it_was(rows, a, b):
    history = History("BTC/USD", Timeframe.M1, Source.REST, Range(min(a, b), max(a, b)), tuple(rows))
    assert p.decode_history(p.encode_history(history)) == history


@given(texts, instants, texts)
def test_the_other_payloads_come_back_as_they_were(text, instant, reason):
    state = FeedState(text, FeedCondition.LIVE, instant, ("BTC/USD",), {"XBT/USD": reason})
    assert p.decode_feed_state(p.encode_feed_state(state)) == state
    mark = Watermark(text, instant, instant)
    assert p.decode_watermark(p.encode_watermark(mark)) == mark
    seed = SeedRequest(("BTC/USD", "ETH/USD"))
    assert p.decode_seed_request(p.encode_seed_request(seed)) == seed
    request = HistoryRequest(("BTC/USD",), Timeframe.H4, Range(1.5, 61.5))
    assert p.decode_history_request(p.encode_history_request(request)) == request
    status = Status("aggregator", text, Presence.ONLINE, "0.1.0", instant, {"symbols": ["BTC/USD"]})
    assert p.decode_status(p.encode_status(status)) == status


@given(st.binary(max_size=50))
def test_dead_letter_keeps_any_payload(payload):
    letter = p.dead_letter("a/b", payload, "reason", 1.5)
    again = p.decode_dead_letter(p.encode_dead_letter(letter))
    assert again == letter


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"open":51600.1', b'"open":"x"', "Candle"),
        (b'"trades":17,', b"", "trades"),
        (b'"trades":17', b'"trades":-1', "trades and revision from 0"),
        (b'"trades":17', b'"trades":99999999999999999999', "Candle|trades"),
        (b'"high":51610.0', b'"high":51600.0', "low <= open, close <= high"),
        (b'"high":51610.0', b'"high":1e999999999', "30 digits"),
        (b'"low":51600.1', b'"low":-1', "30 digits"),
        (b'"volume":1.20480000', b'"volume":1e-999999', "30 digits"),
        (b"02:15:00Z", b"02:16:00Z", "aligned to 5m"),
        (b"02:20:00Z", b"02:25:00Z", "close_time 5m after"),
        (b'"5m"', b'"7m"', "timeframe"),
        (b"BTC/USD", b"BTC+USD", "symbol such as BTC/USD"),
        (b"kraken", b"binance", "exchange"),
        (b"02:15:00Z", b"02:15:00", "offset"),
    ],
)
def test_candle_that_could_not_be_is_refused_with_the_reason(old, new, reason):
    with pytest.raises(PayloadError, match=reason):
        p.decode_candle(EXAMPLE.replace(old, new))


@given(st.binary(max_size=200))
def test_anything_else_is_refused_and_nothing_else_happens(payload):
    for decode in (p.decode_candle, p.decode_history, p.decode_feed_state, p.decode_status, p.decode_seed_request):
        with pytest.raises(PayloadError):
            decode(payload)


def test_deeply_nested_json_is_refused():
    with pytest.raises(PayloadError):
        p.decode_status(b"[" * 100_000)


def test_history_with_a_row_of_another_symbol_is_refused():
    rows = p.encode_history(History("ETH/USD", Timeframe.M5, Source.REST, Range(0, 1), (p.decode_candle(EXAMPLE),)))
    with pytest.raises(PayloadError, match="expected rows of ETH/USD 5m, got BTC/USD 5m"):
        p.decode_history(rows)
