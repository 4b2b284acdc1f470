"""The public REST API: OHLC, Trades, AssetPairs, SystemStatus, with Kraken's envelope, limits and infilled rows."""

import json
from collections.abc import Iterable

from kraken_simulator.candles import COMMITTED_ROWS, INTERVALS
from kraken_simulator.market import Market
from kraken_simulator.pairs import Pair, rest_asset
from kraken_simulator.tape import NumberedTrade
from kraken_simulator.text import NANOS, VOLUME_DECIMALS, fixed, rfc3339_seconds

UNKNOWN_PAIR = "EQuery:Unknown asset pair"
TOO_MANY = "EGeneral:Too many requests"
UNAVAILABLE = "EService:Unavailable"
INVALID = "EGeneral:Invalid arguments"
UNKNOWN_METHOD = "EGeneral:Unknown method"

MAX_TRADES = 1_000
"""How many trades one answer holds at most."""

_TRADE_DECIMALS = 5


def error_json(text: str) -> str:
    """Return an error, which comes with HTTP 200."""
    return f'{{"error":["{text}"]}}'


def ohlc_json(market: Market, minutes: int, now: int, since: int | None) -> str:
    """Return the OHLC answer as of `now` (unix seconds): at most 720 committed rows, and the forming one last.

    Intervals without trades are flat at the close before, with vwap `0.0` (fact 3). `since` is exclusive and does not
    take the forming row away.
    """
    rows, last = _ohlc_rows(market, minutes, now, since)
    return f'{{"error":[],"result":{{"{market.pair.key}":[{",".join(rows)}],"last":{last}}}}}'


def _ohlc_rows(market: Market, minutes: int, now: int, since: int | None) -> tuple[list[str], int]:
    size = minutes * 60
    forming = now // size * size
    if market.first_time is None:
        return [], forming - size
    first = max(forming - COMMITTED_ROWS * size, market.first_time // size * size)
    series = market.series(minutes)
    decimals = market.pair.price_decimals
    close = market.tape.price_before(first * NANOS) or 0
    rows = []
    for open_time in range(first, forming + 1, size):
        candle = series.at(open_time)
        wanted = since is None or open_time > since or open_time == forming
        if candle is not None:
            close = candle.close
            if wanted:
                prices = (candle.open, candle.high, candle.low, candle.close, candle.vwap)
                texts = '","'.join(fixed(price, decimals) for price in prices)
                rows.append(f'[{open_time},"{texts}","{fixed(candle.volume, VOLUME_DECIMALS)}",{candle.trades}]')
        elif wanted:
            flat = fixed(close, decimals)
            rows.append(f'[{open_time},"{flat}","{flat}","{flat}","{flat}","0.0","0.00000000",0]')
    return rows, forming - size


def trades_json(market: Market, since: int | None, count: int) -> str:
    """Return up to `count` trades after `since` (unix nanoseconds), or the latest; `last` is the last one's time."""
    tape = market.tape
    first = max(0, len(tape) - count) if since is None else tape.position_after(since)
    trades = tape.numbered(first, first + count)
    last = trades[-1].trade.time if trades else since or 0
    rows = ",".join(_trade_row(market.pair, trade) for trade in trades)
    return f'{{"error":[],"result":{{"{market.pair.key}":[{rows}],"last":"{last}"}}}}'


def _trade_row(pair: Pair, numbered: NumberedTrade) -> str:
    trade = numbered.trade
    decimals = max(_TRADE_DECIMALS, pair.price_decimals)
    price = fixed(trade.price * 10 ** (decimals - pair.price_decimals), decimals)
    time = fixed(trade.time // 100, 7).rstrip("0")
    return (
        f'["{price}","{fixed(trade.quantity, VOLUME_DECIMALS)}",{time + "0" if time.endswith(".") else time},'
        f'"{"s" if trade.sell else "b"}","{"l" if trade.limit else "m"}","",{numbered.number}]'
    )


def asset_pairs_json(pairs: Iterable[Pair], system: str) -> str:
    """Return the AssetPairs answer: every pair with its legacy names."""
    return json.dumps({"error": [], "result": {pair.key: _asset_pair(pair, system) for pair in pairs}})


def _asset_pair(pair: Pair, system: str) -> dict[str, object]:
    return {
        "altname": pair.altname,
        "wsname": pair.wsname,
        "aclass_base": "currency",
        "base": rest_asset(pair.base),
        "aclass_quote": "currency",
        "quote": rest_asset(pair.quote),
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": pair.price_decimals,
        "lot_decimals": VOLUME_DECIMALS,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": "0.00005",
        "costmin": "0.5",
        "tick_size": fixed(1, pair.price_decimals),
        "status": system,
    }


def system_status_json(system: str, now: int) -> str:
    """Return the SystemStatus answer as of `now` (unix seconds)."""
    return f'{{"error":[],"result":{{"status":"{system}","timestamp":"{rfc3339_seconds(now)}"}}}}'


def parse_interval(text: str) -> int | None:
    """Return an interval in minutes, None if it is not one of Kraken's."""
    return int(text) if text.isdigit() and int(text) in INTERVALS else None


def parse_since(text: str) -> int | None:
    """Return a non-negative whole number (a fraction is cut off), None if it is not one."""
    whole = text.partition(".")[0]
    return int(whole) if whole.isdigit() and len(whole) < 20 else None
