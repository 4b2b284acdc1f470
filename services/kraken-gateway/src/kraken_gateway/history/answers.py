"""From what REST says to history batches. Pure.

A batch may begin with one row without trades, flat at the last close: it tells the price with which the range begins.
In an OHLC answer that is the first row; in an answer made of trades it opens a minute before the range.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from ingress_common.model import GRACE, Candle, History, Range, Source
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from kraken_gateway.history.trades import candles_of, plain_price
from kraken_gateway.kraken.protocol import Row
from kraken_gateway.kraken.rest import OhlcRow, Trade
from kraken_gateway.outlet import candle_of

COMMITTED_ROWS = 720
"""Committed candles that OHLC gives at most."""

LATEST_ROWS = 12
"""Windows that a seed from REST tells: as many as any higher window has of the next lower ones, and more than a
snapshot.
"""

_MARGIN_ROWS = 2


def reach_of(timeframe: Timeframe, now: float) -> int:
    """From when on (unix seconds) OHLC can tell at `now`, with some time for the call."""
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


def ohlc_answer(symbol: str, timeframe: Timeframe, rows: Sequence[OhlcRow], span: Range, taken: float) -> History:
    """What `rows`, asked for at `taken` (unix seconds, Kraken's time), tell of `span`.

    If they begin later than it, so does the batch; one that can tell nothing covers nothing.
    """
    end = min(span.end, taken)
    known_from = max(span.start, float(rows[0].open_time)) if rows else end
    if known_from >= end:
        return History(symbol, timeframe, Source.REST, Range(end, end), ())
    inside = [row for row in rows if known_from <= row.open_time < end]
    candles = tuple(
        candle_of(
            _row(symbol, timeframe, row),
            Source.REST,
            closed=row.open_time + timeframe.seconds <= taken - GRACE,
            at=taken,
        )
        for row in inside
        # Rows that Kraken has filled in are not passed on, but for one in front: all else follows from what traded.
        if row.trades or (row is inside[0] and row.close)
    )
    return History(symbol, timeframe, Source.REST, Range(known_from, end), candles)


def latest_start(timeframe: Timeframe, now: float) -> int:
    """From when on (unix seconds) OHLC is asked at `now` for the latest windows.

    Minutes as far back as it reaches: a symbol that trades seldom has no price in the last few.
    """
    if timeframe is Timeframe.M1:
        return reach_of(timeframe, now)
    return timeframe.floor(now) - (LATEST_ROWS - 1) * timeframe.seconds


def latest_answer(symbol: str, timeframe: Timeframe, rows: Sequence[OhlcRow], taken: float) -> History:
    """The latest windows that `rows`, asked for at `taken` (unix seconds, Kraken's time), tell, up to then.

    At 1m from the LATEST_ROWS-th window with trades on, as a snapshot has them. Without rows the symbol never traded,
    and the batch covers nothing.
    """
    recent = timeframe.floor(taken) - (LATEST_ROWS - 1) * timeframe.seconds
    traded = [row.open_time for row in rows if row.trades][-LATEST_ROWS:]
    start = min(recent, *traded[:1]) if timeframe is Timeframe.M1 else recent
    return ohlc_answer(symbol, timeframe, rows, Range(start, taken), taken)


def quiet_answer(symbol: str, trades: Sequence[Trade], decimals: int, taken: float, *, full: bool) -> History | None:
    """The latest minutes of a symbol that has not traded within OHLC's reach, from its last trades: from the
    LATEST_ROWS-th last minute with trades on to `taken` (unix seconds, Kraken's time). None if there are none.

    `full`: there are earlier trades, so the first minute may lack some.
    """
    rows = list(candles_of(symbol, trades, decimals))[1 if full else 0 :][-LATEST_ROWS:]
    if not rows:
        return None
    candles = tuple(
        candle_of(row, Source.TRADES, closed=row.open_time + Timeframe.M1.seconds <= taken - GRACE, at=taken)
        for row in rows
    )
    return History(symbol, Timeframe.M1, Source.TRADES, Range(candles[0].open_time, taken), candles)


def trades_answer(
    symbol: str, trades: Iterable[Trade], covers: Range, price_before: Decimal | None, decimals: int, taken: float
) -> History:
    """The minutes of `covers`, all of whose trades are `trades`, asked for at `taken` (unix seconds, Kraken's time)."""
    candles = [
        candle_of(row, Source.TRADES, closed=row.open_time + Timeframe.M1.seconds <= taken - GRACE, at=taken)
        for row in candles_of(symbol, trades, decimals)
    ]
    if price_before is not None and (not candles or candles[0].open_time > covers.start):
        candles.insert(0, _price_row(symbol, int(covers.start), plain_price(price_before, decimals), taken))
    return History(symbol, Timeframe.M1, Source.TRADES, covers, tuple(candles))


def _price_row(symbol: str, end: int, price: Decimal, taken: float) -> Candle:
    open_time = end - Timeframe.M1.seconds
    row = Row(symbol, Timeframe.M1, open_time, price, price, price, price, Decimal(0), price, 0)
    return candle_of(row, Source.REST, closed=True, at=taken)


def _row(symbol: str, timeframe: Timeframe, row: OhlcRow) -> Row:
    # Kraken gives 0 as the vwap of a row that it has filled in.
    vwap = row.vwap if row.trades else row.close
    return Row(symbol, timeframe, row.open_time, row.open, row.high, row.low, row.close, row.volume, vwap, row.trades)
