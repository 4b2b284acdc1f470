"""The peer of the core: nautilus_trader's `TimeBarAggregator`, from external 1m bars to internal bars."""

from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Any

from bench.figure import UnavailableError
from bench.market import OPENS
from bench.rounds import cpu_seconds

_TIMEFRAMES = ("5-MINUTE", "15-MINUTE", "1-HOUR", "4-HOUR", "1-DAY")
_SECONDS = (300, 900, 3600, 14400, 86400)
_MINUTE = 60
_NANOSECONDS = 10**9


class BarAggregation:
    """Five aggregators per symbol on one clock, as in a trading node, that continue round by round.

    UnavailableError without nautilus_trader.
    """

    def __init__(self, symbol_count: int, minutes: int) -> None:
        try:
            from nautilus_trader.common.component import TestClock
            from nautilus_trader.data.aggregation import TimeBarAggregator
            from nautilus_trader.model.data import BarType
        except ImportError as error:
            text = f"no nautilus_trader ({error}): `make bench` installs it where it has a wheel for this Python"
            raise UnavailableError(text) from None
        self._minutes = minutes
        self._rounds = count()
        self._closed: list[Any] = []
        self._clock = TestClock()
        self._clock.set_time(OPENS * _NANOSECONDS)
        self._symbols = []
        for number in range(symbol_count):
            instrument = _instrument(f"S{number:04d}")
            name = instrument.id
            aggregators = [
                TimeBarAggregator(
                    instrument,
                    BarType.from_str(f"{name}-{timeframe}-LAST-INTERNAL@1-MINUTE-EXTERNAL"),
                    self._closed.append,
                    self._clock,
                )
                for timeframe in _TIMEFRAMES
            ]
            self._symbols.append((BarType.from_str(f"{name}-1-MINUTE-LAST-EXTERNAL"), aggregators))

    def round(self) -> float:
        """Aggregate the next minutes; seconds of CPU per 1m bar. AssertionError if not every window was closed."""
        first = next(self._rounds) * self._minutes
        end = first + self._minutes
        bars = [self._bars(number) for number in range(first, end)]
        self._closed.clear()
        taken = cpu_seconds(partial(self._aggregate, bars))
        start, stop = OPENS + first * _MINUTE, OPENS + end * _MINUTE
        # In its first window of each timeframe it also closes what had begun before.
        expected = sum(stop // seconds - start // seconds for seconds in _SECONDS) * len(self._symbols)
        if len(self._closed) < expected:
            raise AssertionError(f"expected {expected} bars from nautilus_trader, got {len(self._closed)}")
        return taken / (self._minutes * len(self._symbols))

    def _bars(self, number: int) -> Sequence[Any]:
        from nautilus_trader.model.data import Bar
        from nautilus_trader.model.objects import Price, Quantity

        ends = (OPENS + (number + 1) * _MINUTE) * _NANOSECONDS
        # Inside the minute that ends then: at its very end the timers go first.
        at = ends - 1
        numbers = (Price(51600.1, 1), Price(51610.0, 1), Price(51600.1, 1), Price(51605.2, 1), Quantity(1.2048, 8))
        return [Bar(kind, *numbers, at, at) for kind, _ in self._symbols]

    def _aggregate(self, minutes: Sequence[Sequence[Any]]) -> None:
        for bars in minutes:
            for bar, (_, aggregators) in zip(bars, self._symbols, strict=True):
                for aggregator in aggregators:
                    aggregator.handle_bar(bar)
            for event in self._clock.advance_time(bars[0].ts_event + 1):
                event.handle()


def _instrument(name: str) -> Any:
    from nautilus_trader.model.currencies import BTC, USD
    from nautilus_trader.model.identifiers import InstrumentId, Symbol
    from nautilus_trader.model.instruments import CurrencyPair
    from nautilus_trader.model.objects import Price, Quantity

    return CurrencyPair(
        instrument_id=InstrumentId.from_str(f"{name}/USD.KRAKEN"),
        raw_symbol=Symbol(f"{name}/USD"),
        base_currency=BTC,
        quote_currency=USD,
        price_precision=1,
        size_precision=8,
        price_increment=Price(0.1, 1),
        size_increment=Quantity(1e-8, 8),
        ts_event=0,
        ts_init=0,
    )
