"""Rows in less memory are the same rows."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregator.compact import compact
from example import CANDLE
from ingress_common.model import History, Range, Source
from ingress_common.payloads import decode_history, encode_history
from ingress_common.timeframes import Timeframe

PRICES = st.sampled_from([Decimal(text) for text in ("1.0", "1.00", "1.1", "0.9", "1E-8")])


def batch(**prices: Decimal) -> History:
    rows = tuple(replace(CANDLE, open_time=60 * number, **prices) for number in range(3))
    return History("BTC/USD", Timeframe.M1, Source.REST, Range(0, 180), rows)


@given(st.fixed_dictionaries(dict.fromkeys(("open", "high", "low", "close", "vwap"), PRICES)))
def test_every_digit_stays(prices):
    history = batch(**prices)
    assert encode_history(compact(history)) == encode_history(history)


def test_the_rows_of_a_thin_market_share_their_price_and_texts():
    one = dict.fromkeys(("open", "high", "low", "close", "vwap"), Decimal("51600.10"))
    rows = compact(decode_history(encode_history(batch(**one)))).candles
    assert len({id(getattr(row, name)) for name in one for row in rows[:1]}) == 1
    assert len({id(text) for row in rows for text in (row.symbol,)}) == 1
