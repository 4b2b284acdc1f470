"""Candles as CSV: the columns of `crypto-ingress rollup` and `export` and of `/candles` as CSV."""

from ingress_common.decimals import plain
from ingress_common.model import Candle

COLUMNS = ("time", "open", "high", "low", "close", "volume", "vwap", "trades", "infilled")
"""`time` is the open time in unix seconds; `infilled` is 1 if nothing traded, else 0."""

HEADER = ",".join(COLUMNS) + "\n"
"""The header line."""


def csv_row(c: Candle) -> str:
    """One candle as a line of CSV. Prices and volumes keep their exact decimals and always have a decimal point."""
    return (
        f"{c.open_time},{plain(c.open)},{plain(c.high)},{plain(c.low)},{plain(c.close)},{plain(c.volume)},"
        f"{plain(c.vwap)},{c.trades},{c.infilled:d}\n"
    )
