"""The methods OHLC and Trades."""

from kraken_simulator.candles import COMMITTED_ROWS, candles_between
from kraken_simulator.digits import Digits
from kraken_simulator.market import Market
from kraken_simulator.rest.envelope import result_json
from kraken_simulator.tape import NumberedTrade
from kraken_simulator.text import NANOS, fixed

MAX_TRADES = 1_000
"""Maximum number of trades in a response."""

_TRADE_DECIMALS = 5


def ohlc_json(market: Market, key: str, minutes: int, now: int, since: int | None) -> str:
    """Return the OHLC response at `now` (unix seconds): at most 720 committed rows, then the forming one.

    Intervals without trades are flat at the previous close, with vwap `0.0` (fact 3). `since` is exclusive and never
    removes the forming row.
    """
    rows, last = _ohlc_rows(market, minutes, now, since)
    return result_json(f'{{"{key}":[{",".join(rows)}],"last":{last}}}')


def _ohlc_rows(market: Market, minutes: int, now: int, since: int | None) -> tuple[list[str], int]:
    size = minutes * 60
    forming = now // size * size
    if market.first_time is None:
        return [], forming - size
    first = max(forming - COMMITTED_ROWS * size, market.first_time // size * size)
    if since is not None:
        first = max(first, min(forming, (since // size + 1) * size))
    candles = candles_between(market.tape, minutes, first, forming + size)
    digits = market.digits
    close = market.tape.price_before(first * NANOS) or 0
    no_volume = digits.quantity(0)
    rows = []
    for open_time in range(first, forming + 1, size):
        candle = candles.get(open_time)
        if candle is None:
            flat = digits.price(close)
            rows.append(f'[{open_time},"{flat}","{flat}","{flat}","{flat}","0.0","{no_volume}",0]')
        else:
            close = candle.close
            prices = '","'.join(digits.price(price) for price in (candle.open, candle.high, candle.low, candle.close))
            vwap = digits.vwap(candle.turnover, candle.volume, candle.close)
            rows.append(f'[{open_time},"{prices}","{vwap}","{digits.quantity(candle.volume)}",{candle.trades}]')
    return rows, forming - size


def trades_json(market: Market, key: str, since: int | None, count: int, *, last_if_none: str | None = None) -> str:
    """Return up to `count` trades after `since` (unix nanoseconds), or the latest ones; `last` is the last one's time.

    `last_if_none`: the value of `last` if there are no trades (default: `since`).
    """
    tape = market.tape
    first = max(0, len(tape) - count) if since is None else tape.position_after(since)
    trades = tape.numbered(first, first + count)
    none = str(since or 0) if last_if_none is None else last_if_none
    last = str(trades[-1].trade.time) if trades else none
    rows = ",".join(_trade_row(market.digits, trade) for trade in trades)
    return result_json(f'{{"{key}":[{rows}],"last":"{last}"}}')


def long_price(digits: Digits, units: int) -> str:
    """Return a price in the format of Trades and Ticker, with at least five decimals."""
    text = digits.price(units)
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.ljust(_TRADE_DECIMALS, '0')}"


def _trade_row(digits: Digits, numbered: NumberedTrade) -> str:
    trade = numbered.trade
    time = fixed(trade.time // 100, 7).rstrip("0")
    return (
        f'["{long_price(digits, trade.price)}","{digits.quantity(trade.quantity)}",'
        f"{time + '0' if time.endswith('.') else time},"
        f'"{"s" if trade.sell else "b"}","{"l" if trade.limit else "m"}","",{numbered.number}]'
    )
