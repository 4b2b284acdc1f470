"""An example candle."""

from decimal import Decimal

from ingress_common.model import Candle, Source
from ingress_common.timeframes import Timeframe

CANDLE = Candle(
    symbol="BTC/USD",
    timeframe=Timeframe.M1,
    open_time=0,
    open=Decimal("51600.10"),
    high=Decimal("51610.0"),
    low=Decimal("51600.1"),
    close=Decimal("51605.2"),
    volume=Decimal("1.20480000"),
    vwap=Decimal("51604.3"),
    trades=17,
    closed=True,
    infilled=False,
    complete=True,
    revision=0,
    source=Source.ROLLUP,
    at=61.0,
)
"""A closed 1m candle of 17 trades, with digits that a float would lose."""
