"""A market: a source of trades played in real time, its tape, and the candles the exchange shows of it."""

from collections.abc import Iterable

from kraken_simulator.candles import CandleSeries
from kraken_simulator.pairs import Pair
from kraken_simulator.sources.port import TradeSource
from kraken_simulator.tape import Tape, Trade
from kraken_simulator.text import NANOS

TrueTrade = tuple[int, int, int]
"""Unix nanoseconds, price and quantity of a trade."""


class Market:
    """One pair as the exchange runs it.

    `halted` stops trading: what the source would have traded meanwhile never happens.
    """

    def __init__(self, source: TradeSource) -> None:
        self.pair: Pair = source.pair
        self.halted = False
        self.tape = Tape()
        self._source = source
        self._late: list[Trade] = []
        self._series: dict[int, CandleSeries] = {}

    def advance(self, now: int) -> None:
        """Make the trades that are due by `now` (unix nanoseconds)."""
        for trade in self._source.take_until(now):
            if not self.halted:
                self.tape.append(trade)

    def series(self, minutes: int) -> CandleSeries:
        """Return the exchange's candles of an interval, up to the last trade it knows."""
        series = self._series.get(minutes)
        if series is None:
            series = self._series[minutes] = CandleSeries(minutes)
        series.follow(self.tape)
        return series

    def trade_unseen(self, now: int) -> Trade:
        """Make a trade that the exchange learns of later, above the market so that it moves the high."""
        price = self.tape.price_before(now + 1) or 10**self.pair.price_decimals
        trade = Trade(now, price + max(1, price // 500), 12_345_678)
        self._late.append(trade)
        return trade

    def reveal(self, trade: Trade) -> None:
        """Let the exchange learn of a trade made by `trade_unseen`."""
        if trade in self._late:
            self._late.remove(trade)
            self.tape.insert(trade)

    def true_trades(self, first: int, end: int) -> Iterable[TrueTrade]:
        """Return every trade made from `first` to before `end` (unix nanoseconds), seen by the exchange or not."""
        seen = self.tape.states(self.tape.position_at(first), self.tape.position_at(end))
        late = [(trade.time, trade.price, trade.quantity) for trade in self._late if first <= trade.time < end]
        return sorted([*seen, *late], key=lambda trade: trade[0]) if late else seen

    @property
    def first_time(self) -> int | None:
        """When the market first traded in unix seconds, None if never."""
        return self.tape.time(0) // NANOS if len(self.tape) else None
