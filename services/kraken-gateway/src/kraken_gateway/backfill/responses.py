"""History batches from REST responses: minutes from trades, prices before a range, omitted rows. Pure.

A batch may begin with one row without trades, flat at the last close: it states the price with which the range begins.
In an OHLC response that is the first row; in a batch made of trades it opens a minute before the range.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal, localcontext

from ingress_common.model import GRACE, Candle, History, Range, Source
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from kraken_gateway.kraken.protocol import IntervalRow
from kraken_gateway.kraken.rest import PAGE, OhlcRow, Trade, TradePage

COMMITTED_ROWS = 720
"""Committed candles that OHLC gives at most."""

_MARGIN_ROWS = 2
_NANOS = 10**9


def reach_of(timeframe: Timeframe, now: float) -> int:
    """The time (unix seconds) from which OHLC has rows at `now`, less a margin for the call."""
    return timeframe.floor(now) - (COMMITTED_ROWS - _MARGIN_ROWS) * timeframe.seconds


def price_window(start: float, now: float) -> tuple[Timeframe, int] | None:
    """The OHLC row that closes with a price not long before `start`: the smallest timeframe above 1m that reaches so
    far back at `now`, and the row's open (unix seconds). None if no timeframe does.
    """
    for timeframe in TIMEFRAMES[1:]:
        open_time = timeframe.floor(start) - timeframe.seconds
        if open_time >= reach_of(timeframe, now):
            return timeframe, open_time
    return None


def ohlc_history(
    symbol: str, timeframe: Timeframe, rows: Sequence[OhlcRow], span: Range, taken: float, begins: float | None = None
) -> History:
    """The batch that `rows`, requested at `taken` (unix seconds, Kraken's time), give for `span`.

    The rows are complete from `begins` on (unix seconds; by default the first row). The batch begins there if that is
    later than `span`; without rows it covers nothing.
    """
    end = min(span.end, taken)
    known_from = max(span.start, float(rows[0].open_time) if begins is None else begins) if rows else end
    if known_from >= end:
        return History(symbol, timeframe, Source.REST, Range(end, end), ())
    inside = [row for row in rows if known_from <= row.open_time < end]
    candles = tuple(
        row.row(symbol, timeframe).candle(
            Source.REST,
            closed=row.open_time + timeframe.seconds <= taken - GRACE,
            at=taken,
        )
        for row in inside
        # Rows that Kraken infilled are omitted, except a first one: everything else follows from the trades.
        if row.trades or (row is inside[0] and row.close)
    )
    return History(symbol, timeframe, Source.REST, Range(known_from, end), candles)


def trades_history(
    symbol: str, trades: Iterable[Trade], covers: Range, price_before: Decimal | None, decimals: int, taken: float
) -> History:
    """The minutes of `covers`, all of whose trades are `trades`, requested at `taken` (unix seconds, Kraken's time)."""
    candles = [
        row.candle(Source.TRADES, closed=row.open_time + Timeframe.M1.seconds <= taken - GRACE, at=taken)
        for row in candles_of(symbol, trades, decimals)
    ]
    if price_before is not None and (not candles or candles[0].open_time > covers.start):
        candles.insert(0, _price_row(symbol, int(covers.start), plain_price(price_before, decimals), taken))
    return History(symbol, Timeframe.M1, Source.TRADES, covers, tuple(candles))


def _price_row(symbol: str, end: int, price: Decimal, taken: float) -> Candle:
    open_time = end - Timeframe.M1.seconds
    row = IntervalRow.of(symbol, Timeframe.M1, open_time, (price, price, price, price), Decimal(0), price, 0)
    return row.candle(Source.REST, closed=True, at=taken)


def candles_of(symbol: str, trades: Iterable[Trade], price_decimals: int) -> list[IntervalRow]:
    """The 1m candles of `trades` (in order), oldest first.

    The vwap is truncated, not rounded, to the pair's price decimals (fact 12).
    """
    minutes: dict[int, list[Trade]] = {}
    for trade in trades:
        minutes.setdefault(Timeframe.M1.floor(int(trade.time)), []).append(trade)
    with localcontext(prec=60):
        return [_candle(symbol, minute, minutes[minute], price_decimals) for minute in sorted(minutes)]


def _candle(symbol: str, minute: int, trades: list[Trade], decimals: int) -> IntervalRow:
    prices = [plain_price(trade.price, decimals) for trade in trades]
    volume = sum((trade.volume for trade in trades), Decimal(0))
    vwap = prices[-1]
    if volume:
        worth = sum((trade.price * trade.volume for trade in trades), Decimal(0))
        vwap = (worth / volume).quantize(Decimal(1).scaleb(-decimals), ROUND_DOWN)
    ohlc = (prices[0], max(prices), min(prices), prices[-1])
    return IntervalRow.of(symbol, Timeframe.M1, minute, ohlc, volume, vwap, len(trades))


def plain_price(price: Decimal, decimals: int) -> Decimal:
    """`price` with the pair's decimals, as OHLC has it; Trades pads with zeros. Untouched if that would change it."""
    plain = price.quantize(Decimal(1).scaleb(-decimals), ROUND_DOWN)
    return plain if plain == price else price


@dataclass(frozen=True, slots=True)
class TradeReading:
    """How far the trades of a range have been read: `begun` to `done` (unix seconds) is final.

    `since`: where the next page begins (ns); `seen`: the trades of the page before; `open`: trades from `done` on that
    were read already; `price`: the last one before `done`, None if unknown.
    """

    begun: float
    done: float
    since: int
    price: Decimal | None
    seen: frozenset[Trade] = frozenset()
    open: tuple[Trade, ...] = ()

    @classmethod
    def begin(cls, start: float, price: Decimal | None) -> "TradeReading":
        """A reading that begins at `start` (unix seconds)."""
        return cls(start, start, int(start) * _NANOS - 1, price)

    def take(self, page: TradePage, end: float) -> tuple["TradeReading", tuple[Trade, ...]]:
        """Add the next page. Returns the reading after it, at most up to `end` (unix seconds, which may be later each
        time), and the trades that are final now.
        """
        fresh = [trade for trade in page.trades if trade not in self.seen]
        if not fresh and len(page.trades) >= PAGE:
            # A full page of one nanosecond, already read: go past it, or the same page would return without end.
            return replace(self, since=page.last or self.since), ()
        trades = [*self.open, *(trade for trade in fresh if trade.time >= self.done)]
        # A page may end within a minute. Without news, or beyond the range, there is nothing more.
        over = not fresh or page.last is None or fresh[-1].time >= end
        done = max(self.done, end if over else float(Timeframe.M1.floor(int(fresh[-1].time))))
        final = tuple(trade for trade in trades if trade.time < done)
        reading = TradeReading(
            begun=self.begun,
            done=done,
            # One back, because trades of one nanosecond may be split over pages; known trades are omitted.
            since=self.since if page.last is None else page.last - 1,
            price=final[-1].price if final else self.price,
            seen=frozenset(page.trades),
            open=tuple(trade for trade in trades if trade.time >= done),
        )
        return reading, final
