"""Minute candles from trades, page by page. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal, localcontext

from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken.protocol import Row
from kraken_gateway.kraken.rest import PAGE, Trade, TradePage

_NANOS = 10**9


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
    prices = [plain_price(trade.price, decimals) for trade in trades]
    volume = sum((trade.volume for trade in trades), Decimal(0))
    vwap = prices[-1]
    if volume:
        worth = sum((trade.price * trade.volume for trade in trades), Decimal(0))
        vwap = (worth / volume).quantize(Decimal(1).scaleb(-decimals), ROUND_DOWN)
    return Row(symbol, Timeframe.M1, minute, prices[0], max(prices), min(prices), prices[-1], volume, vwap, len(trades))


def plain_price(price: Decimal, decimals: int) -> Decimal:
    """`price` with the pair's decimals, as OHLC has it; Trades pads with zeros. Untouched if that would change it."""
    plain = price.quantize(Decimal(1).scaleb(-decimals), ROUND_DOWN)
    return plain if plain == price else price


@dataclass(frozen=True, slots=True)
class TradeReading:
    """How far the trades of a range have been read: from `begun` to `done` (unix seconds) everything is settled.

    `since`: where the next page begins (ns); `seen`: the numbers of the page before; `open`: trades from `done` on that
    are here already; `price`: the last one before `done`, None where nobody can tell.
    """

    begun: float
    done: float
    since: int
    price: Decimal | None
    seen: frozenset[int] = frozenset()
    open: tuple[Trade, ...] = ()

    @classmethod
    def begin(cls, start: float, price: Decimal | None) -> "TradeReading":
        """Nothing read yet of what follows `start` (unix seconds)."""
        return cls(start, start, int(start) * _NANOS - 1, price)

    def take(self, page: TradePage, end: float) -> tuple["TradeReading", tuple[Trade, ...]]:
        """The next page: how far that brings us, at most to `end` (unix seconds, which may lie later every time), and
        the trades that are settled now.
        """
        fresh = [trade for trade in page.trades if trade.number not in self.seen]
        if not fresh and len(page.trades) >= PAGE:
            # A full page of one nanosecond that we have seen: go past it, or it would come for ever.
            return replace(self, since=page.last), ()
        trades = [*self.open, *(trade for trade in fresh if trade.time >= self.done)]
        # A page ends in the middle of a minute; without anything new, or beyond the range, there is no more to come.
        over = not fresh or fresh[-1].time >= end
        done = max(self.done, end if over else float(Timeframe.M1.floor(int(fresh[-1].time))))
        settled = tuple(trade for trade in trades if trade.time < done)
        reading = TradeReading(
            begun=self.begun,
            done=done,
            # One back, because trades of the same nanosecond may be cut apart; what was seen is left out.
            since=page.last - 1,
            price=settled[-1].price if settled else self.price,
            seen=frozenset(trade.number for trade in page.trades),
            open=tuple(trade for trade in trades if trade.time >= done),
        )
        return reading, settled
