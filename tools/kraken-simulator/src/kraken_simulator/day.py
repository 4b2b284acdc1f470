"""Ticker data: best prices, and the trades of today and the last 24 hours."""

from kraken_simulator.book import EMPTY, PriceLevel, book_of
from kraken_simulator.frames import micros
from kraken_simulator.market import Market
from kraken_simulator.tape import TradeSums
from kraken_simulator.text import NANOS, fixed

_DAY = 86_400


def best(market: Market) -> tuple[PriceLevel, PriceLevel]:
    """Return the best bid and ask; both 0 if the market has never traded."""
    book = book_of(market.tape, market.digits, 1)
    if book == EMPTY:
        return PriceLevel(0, 0), PriceLevel(0, 0)
    return (book.bids[0] if book.bids else PriceLevel(0, 0)), book.asks[0]


def last_24_hours(market: Market, now: int) -> TradeSums:
    """Return the sums of the 24 hours before `now` (unix nanoseconds); flat at the last price without trades."""
    return _sums(market, now - _DAY * NANOS)


def today(market: Market, now: int) -> TradeSums:
    """Return the sums since midnight UTC; flat at the last price without trades."""
    return _sums(market, now // NANOS // _DAY * _DAY * NANOS)


def _sums(market: Market, first: int) -> TradeSums:
    tape = market.tape
    position = tape.position_at(first)
    if position < len(tape):
        return tape.sums(position, len(tape))
    price = tape.price_before(first) or 0
    return TradeSums(price, price, price, price, 0, 0, 0)


def ticker_frame(kind: str, market: Market, now: int) -> str:
    """Return a snapshot or update of the ticker channel as of `now` (unix nanoseconds)."""
    digits, (bid, ask), day = market.digits, best(market), last_24_hours(market, now)
    change = day.close - day.open
    percent = fixed(round(change * 10_000 / day.open) if day.open else 0, 2)
    return (
        f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{market.pair.symbol}",'
        f'"bid":{digits.price(bid.price)},"bid_qty":{digits.quantity(bid.quantity)},'
        f'"ask":{digits.price(ask.price)},"ask_qty":{digits.quantity(ask.quantity)},'
        f'"last":{digits.price(day.close)},"volume":{digits.quantity(day.volume)},'
        f'"vwap":{digits.vwap(day.turnover, day.volume, day.close)},"low":{digits.price(day.low)},'
        f'"high":{digits.price(day.high)},"change":{digits.price(change)},"change_pct":{percent},'
        f'"trades":{day.trades},"timestamp":"{micros(now)}"}}]}}'
    )
