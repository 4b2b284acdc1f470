"""The state of a window, and the candles that are built from others: rolled up, flat, or as Kraken stated them."""

from collections.abc import Iterable
from decimal import Context, Decimal
from enum import Enum

import msgspec
from msgspec.structs import replace

from ingress_common.model import Candle, Source
from ingress_common.timeframes import Timeframe

_ZERO = Decimal(0)
# Every sum that can occur is exact. A quotient has one digit more than a float can distinguish.
_EXACT = Context(prec=60)
_add, _add_product, _divide = _EXACT.add, _EXACT.fma, Context(prec=18).divide
# Looking a member up in an enum costs as much as building a candle.
_INFILL, _ROLLUP, _M1 = Source.INFILL, Source.ROLLUP, Timeframe.M1


class Origin(Enum):
    """Where the trades of a window above 1m come from.

    `AUTHORITATIVE`: Kraken's own candle. `STALE`: Kraken's own, but a part of it was corrected later.
    """

    ROLLED_UP = "rolled up"
    AUTHORITATIVE = "authoritative"
    STALE = "stale"


ROLLED_UP, AUTHORITATIVE, STALE = Origin.ROLLED_UP, Origin.AUTHORITATIVE, Origin.STALE


class Window(msgspec.Struct, gc=False):
    """The state of one window.

    `traded`: what traded, as far as it is known; None if nothing did. `candle`: the closed candle that was published
    last. `notional`: price times volume over all trades of a rolled-up window, exactly, so that a vwap is rounded only
    once. `pending`: it is over, but waits for data.
    """

    traded: Candle | None = None
    candle: Candle | None = None
    notional: Decimal | None = None
    origin: Origin = ROLLED_UP
    pending: bool = False


def roll_up(
    symbol: str,
    timeframe: Timeframe,
    open_time: int,
    children: Iterable[Window],
    at: float,
    *,
    closed: bool = True,
    complete: bool = True,
) -> Window | None:
    """The window that `children`, oldest first, make up; None if none of them traded."""
    trades = 0
    opening = high = low = close = volume = notional = _ZERO
    for child in children:
        traded = child.traded
        if traded is None:
            continue
        close = traded.close
        if trades:
            if traded.high > high:
                high = traded.high
            if traded.low < low:
                low = traded.low
            volume = _add(volume, traded.volume)
        else:
            opening, high, low, volume = traded.open, traded.high, traded.low, traded.volume
        trades += traded.trades
        known = child.notional
        notional = _add_product(traded.vwap, traded.volume, notional) if known is None else _add(notional, known)
    if not trades:
        return None
    vwap = _divide(notional, volume) if volume else close
    candle = Candle(
        symbol, timeframe, open_time, opening, high, low, close, volume, vwap, trades,
        closed, False, complete, 0, _ROLLUP, at,
    )  # fmt: skip
    return Window(candle, None, notional)


def flat(
    symbol: str, timeframe: Timeframe, open_time: int, price: Candle, *, closed: bool, complete: bool, at: float
) -> Candle:
    """The candle of a window without trades after `price`: flat at its close."""
    close = price.close
    volume = price.volume * 0 if price.volume else price.volume
    return Candle(
        symbol, timeframe, open_time, close, close, close, close, volume, close, 0,
        closed, True, complete, 0, _INFILL, at,
    )  # fmt: skip


def with_state(traded: Candle, *, closed: bool, complete: bool, revision: int, at: float) -> Candle:
    """The candle of a window with the numbers of `traded`."""
    return replace(traded, closed=closed, infilled=traded.trades == 0, complete=complete, revision=revision, at=at)


def same_market(a: Candle, b: Candle) -> bool:
    """Whether both are of the same trades.

    The vwap is left out: Kraken truncates it, so a roll-up may differ in it by a price tick.
    """
    return (
        a.trades == b.trades
        and a.close == b.close
        and a.volume == b.volume
        and a.high == b.high
        and a.low == b.low
        and a.open == b.open
    )


def same_candle(a: Candle, b: Candle) -> bool:
    """Whether both publish the same numbers. Above 1m a difference in vwap alone does not count (`same_market`)."""
    return (
        same_market(a, b)
        and a.open_time == b.open_time
        and a.infilled == b.infilled
        and a.complete == b.complete
        and (a.timeframe is not _M1 or a.vwap == b.vwap)
    )
