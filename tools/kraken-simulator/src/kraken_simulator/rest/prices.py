"""The methods Ticker, Depth and Spread: current prices."""

from kraken_simulator.book import PriceLevel, book_of
from kraken_simulator.day import best, last_24_hours, today
from kraken_simulator.digits import Digits
from kraken_simulator.market import Market
from kraken_simulator.rest.envelope import result_json
from kraken_simulator.rest.history import long_price
from kraken_simulator.text import NANOS

MAX_DEPTH = 500
"""Maximum number of levels per side in Depth."""

_SPREADS = 200


def ticker_row(market: Market, now: int) -> dict[str, object]:
    """Return the row of a pair in the Ticker response at `now` (unix nanoseconds)."""
    digits, (bid, ask) = market.digits, best(market)
    day, last = today(market, now), last_24_hours(market, now)
    newest = market.tape.numbered(len(market.tape) - 1, len(market.tape)) if len(market.tape) else ()
    lot = digits.quantity(newest[0].trade.quantity if newest else 0)

    def price(units: int) -> str:
        return long_price(digits, units)

    vwaps = [digits.vwap(sums.turnover, sums.volume, sums.close) for sums in (day, last)]
    return {
        "a": _offer(ask, digits),
        "b": _offer(bid, digits),
        "c": [price(last.close), lot],
        "v": [digits.quantity(day.volume), digits.quantity(last.volume)],
        "p": vwaps,
        "t": [day.trades, last.trades],
        "l": [price(day.low), price(last.low)],
        "h": [price(day.high), price(last.high)],
        "o": price(day.open),
    }


def _offer(level: PriceLevel, digits: Digits) -> list[str]:
    whole = int(digits.quantity(level.quantity).partition(".")[0])
    return [long_price(digits, level.price), str(whole), f"{whole}.000"]


def depth_json(market: Market, key: str, count: int, now: int) -> str:
    """Return the order book with `count` levels per side at `now` (unix seconds)."""
    digits = market.digits
    bids, asks = (
        ",".join(f'["{long_price(digits, level.price)}","{digits.quantity(level.quantity)}",{now}]' for level in side)
        for side in book_of(market.tape, digits, count)
    )
    return result_json(f'{{"{key}":{{"asks":[{asks}],"bids":[{bids}]}}}}')


def spread_json(market: Market, key: str, since: int | None, now: int) -> str:
    """Return the last 200 best bids and asks after `since` (unix seconds), one for each trade."""
    tape, digits = market.tape, market.digits
    first = len(tape) - _SPREADS if since is None else tape.position_at((since + 1) * NANOS)
    rows = []
    for _, trade in tape.numbered(max(0, first, len(tape) - _SPREADS), len(tape)):
        bid, ask = (
            trade.price - (0 if trade.sell else digits.price_step),
            trade.price + (digits.price_step if trade.sell else 0),
        )
        rows.append(f'[{trade.time // NANOS},"{long_price(digits, bid)}","{long_price(digits, ask)}"]')
    return result_json(f'{{"{key}":[{",".join(rows)}],"last":{now}}}')
