"""Rows of history in less memory: an aggregator keeps tens of thousands of them."""

from decimal import Decimal
from sys import intern

from msgspec.structs import replace

from ingress_common.model import Candle, History


def compact(history: History) -> History:
    """The same batch, in which equal texts and numbers are one object. In a thin market most rows have one price."""
    symbol = intern(history.symbol)
    return replace(history, symbol=symbol, candles=tuple([_compact(row, symbol) for row in history.candles]))


def _compact(row: Candle, symbol: str) -> Candle:
    opening = row.open
    high, low = _shared(row.high, opening), _shared(row.low, opening)
    close = _shared(_shared(row.close, high), low)
    vwap = _shared(row.vwap, close)
    return replace(row, symbol=symbol, high=high, low=low, close=close, vwap=vwap)


def _shared(number: Decimal, other: Decimal) -> Decimal:
    """`other` if it has the same digits, else `number`; `1.0` and `1.00` differ."""
    return other if number == other and number.same_quantum(other) else number
