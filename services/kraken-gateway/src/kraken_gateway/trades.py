"""Minute candles from trades. Pure."""

from collections.abc import Iterable
from decimal import ROUND_DOWN, Decimal, localcontext

from ingress_common.timeframes import Timeframe
from kraken_gateway.protocol import Row
from kraken_gateway.rest import Trade


def candles_of(symbol: str, trades: Iterable[Trade], price_decimals: int) -> list[Row]:
    """The 1m candles that `trades` (in order) make, oldest first.

    vwap is cut, not rounded, to the pair's price decimals (fact 12).
    """
    minutes: dict[int, list[Trade]] = {}
    for trade in trades:
        minutes.setdefault(Timeframe.M1.floor(int(trade.time)), []).append(trade)
    with localcontext(prec=60):
        return [_candle(symbol, minute, minutes[minute], price_decimals) for minute in sorted(minutes)]


def _candle(symbol: str, minute: int, trades: list[Trade], decimals: int) -> Row:
    prices = [_plain(trade.price, decimals) for trade in trades]
    volume = sum((trade.volume for trade in trades), Decimal(0))
    vwap = prices[-1]
    if volume:
        worth = sum((trade.price * trade.volume for trade in trades), Decimal(0))
        vwap = (worth / volume).quantize(Decimal(1).scaleb(-decimals), ROUND_DOWN)
    return Row(symbol, Timeframe.M1, minute, prices[0], max(prices), min(prices), prices[-1], volume, vwap, len(trades))


def _plain(price: Decimal, decimals: int) -> Decimal:
    """`price` with the pair's decimals, as OHLC has it; Trades pads with zeros. Untouched if that would change it."""
    plain = price.quantize(Decimal(1).scaleb(-decimals), ROUND_DOWN)
    return plain if plain == price else price
