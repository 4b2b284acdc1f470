"""Bars: what traded in a window, and how bars make up a bigger one."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Self

from ingress_common.model import Candle, Source
from ingress_common.timeframes import Timeframe

_ZERO = Decimal(0)
# Sums stay exact for any sum that can occur; a quotient gets the digits that a float can still tell apart, and one
# more.
_EXACT = Context(prec=60)
_QUOTIENT = Context(prec=18)


@dataclass(frozen=True, slots=True)
class Bar:
    """The trades of one window, of which there is at least one; a window without trades has no bar, or a `flat` one.

    `notional` is price times volume over the trades, as far as their vwap tells it, so that vwap rolls up without
    rounding twice.
    """

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal
    notional: Decimal
    trades: int
    source: Source
    at: float

    @classmethod
    def of(cls, candle: Candle) -> Self:
        """The bar of a candle that traded."""
        return cls(
            open=candle.open,
            high=candle.high,
            low=candle.low,
            close=candle.close,
            volume=candle.volume,
            vwap=candle.vwap,
            notional=_EXACT.multiply(candle.vwap, candle.volume),
            trades=candle.trades,
            source=candle.source,
            at=candle.at,
        )

    def flat(self) -> "Bar":
        """What a window without trades shows that comes after this one: its close, and nothing traded."""
        price = self.close
        return Bar(
            open=price,
            high=price,
            low=price,
            close=price,
            volume=self.volume * 0,
            vwap=price,
            notional=_ZERO,
            trades=0,
            source=Source.INFILL,
            at=self.at,
        )

    def same_market(self, other: "Bar") -> bool:
        """Whether both tell of the same trades.

        vwap is left out: Kraken truncates it, so a roll-up may differ in it by a price tick.
        """
        return (
            self.trades == other.trades
            and self.open == other.open
            and self.high == other.high
            and self.low == other.low
            and self.close == other.close
            and self.volume == other.volume
        )


def roll_up(bars: Iterable[Bar]) -> Bar | None:
    """The bar that consecutive `bars`, oldest first, make up together; None if nothing traded."""
    parts = list(bars)
    if not parts:
        return None
    volume, notional = _ZERO, _ZERO
    for part in parts:
        volume = _EXACT.add(volume, part.volume)
        notional = _EXACT.add(notional, part.notional)
    return Bar(
        open=parts[0].open,
        high=max(part.high for part in parts),
        low=min(part.low for part in parts),
        close=parts[-1].close,
        volume=volume,
        vwap=_QUOTIENT.divide(notional, volume) if volume else parts[-1].close,
        notional=notional,
        trades=sum(part.trades for part in parts),
        source=Source.ROLLUP,
        at=max(part.at for part in parts),
    )


def candle_of(
    symbol: str, timeframe: Timeframe, window: int, bar: Bar, *, closed: bool, complete: bool, at: float
) -> Candle:
    """The candle of `bar`, infilled if that is a flat one; `window` is its open time, `at` as in a candle."""
    return Candle(
        symbol=symbol,
        timeframe=timeframe,
        open_time=window,
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=bar.volume,
        vwap=bar.vwap,
        trades=bar.trades,
        closed=closed,
        infilled=bar.trades == 0,
        complete=complete,
        revision=0,
        source=bar.source,
        at=at,
    )
