"""A market: a source of trades in real time, its tape, and the changes of its pair."""

from collections.abc import Iterable
from dataclasses import replace

from kraken_simulator.digits import Digits
from kraken_simulator.pairs import SimulatedPair
from kraken_simulator.sources.port import TradeSource
from kraken_simulator.tape import Tape, TapeTrade
from kraken_simulator.text import NANOS

TrueTrade = tuple[int, int, int]
"""Unix nanoseconds, price and quantity of a trade."""


class Market:
    """The market of one pair.

    `halted`: trading is stopped; the source's trades meanwhile are discarded. `status`: the pair's own, as in the
    instrument channel and AssetPairs. The past is created when the tape is first read.
    """

    def __init__(self, source: TradeSource, status: str = "online") -> None:
        self.pair: SimulatedPair = source.pair
        self.status = status
        self.halted = False
        self.digits = Digits(self.pair.price_decimals, self.pair.qty_decimals, self.pair.price_decimals)
        self._source = source
        self._source_decimals = self.pair.price_decimals
        self._on_grid = True
        self._tape = Tape()
        self._past_made = False
        self._late: list[TapeTrade] = []

    # -- trading ---------------------------------------------------------------------------------------------------

    @property
    def next_time(self) -> int | None:
        """Time of the source's next trade (unix nanoseconds); None if there is none."""
        return self._source.next_time

    @property
    def usual_rate(self) -> float:
        """The source's ticks per second at its own pace; 0 if its pace cannot be set."""
        return self._source.usual_rate

    def set_pace(self, factor: float, now: int) -> None:
        """Make the due trades, then trade `factor` times as often as usual."""
        self.advance(now)
        self._source.set_pace(factor, now)

    def advance(self, now: int) -> None:
        """Make the trades that are due by `now` (unix nanoseconds)."""
        for trade in self._source.take_until(now):
            if not self.halted:
                self._tape.append(trade if self._on_grid else self._regridded(trade))

    def _regridded(self, trade: TapeTrade) -> TapeTrade:
        """Return a source's trade in the pair's current decimals."""
        step, lot = self.digits.price_step, self.digits.qty_step
        shift = self.digits.scale - self._source_decimals
        units = trade.price * 10**shift if shift >= 0 else trade.price // 10**-shift
        price = max(step, (units + step // 2) // step * step)
        return trade._replace(price=price, quantity=max(lot, trade.quantity // lot * lot))

    # -- what is known ---------------------------------------------------------------------------------------------

    @property
    def tape(self) -> Tape:
        """Every trade that the exchange knows."""
        self.make_past()
        return self._tape

    def make_past(self) -> None:
        """Create the trades before the source's start, if not yet done."""
        if not self._past_made:
            self._past_made = True
            self._tape.put_before(self._source.past())

    @property
    def trades(self) -> int:
        """Number of trades on the tape, as far as it has been created."""
        return len(self._tape)

    @property
    def last_time(self) -> int:
        """Time of the last trade (unix nanoseconds); 0 if there is none."""
        return self._tape.time(-1) if len(self._tape) else 0

    @property
    def first_time(self) -> int | None:
        """Time of the first trade (unix seconds); None if there is none."""
        return self.tape.time(0) // NANOS if len(self.tape) else None

    # -- late trades -----------------------------------------------------------------------------------------------

    def trade_unseen(self, now: int) -> TapeTrade:
        """Make a trade that becomes known later; its price is above the market, so it moves the high."""
        step, lot = self.digits.price_step, self.digits.qty_step
        price = self.tape.price_before(now + 1) or 10**self.digits.scale
        trade = TapeTrade(now, price + max(1, price // 500 // step) * step, 12_345_678 // lot * lot)
        self._late.append(trade)
        return trade

    def reveal(self, time: int) -> None:
        """Add the trades that `trade_unseen` made at `time` (unix nanoseconds) to the tape."""
        for trade in [late for late in self._late if late.time == time]:
            self._late.remove(trade)
            self.tape.insert(trade)

    def true_trades(self, first: int, end: int) -> Iterable[TrueTrade]:
        """Return all trades from `first` to before `end` (unix nanoseconds), including those not yet known."""
        seen = self.tape.states(self.tape.position_at(first), self.tape.position_at(end))
        late = [(trade.time, trade.price, trade.quantity) for trade in self._late if first <= trade.time < end]
        return sorted([*seen, *late], key=lambda trade: trade[0]) if late else seen

    # -- changes of the pair ---------------------------------------------------------------------------------------

    def rename(self, symbol: str) -> None:
        """Continue under another symbol."""
        self.pair = replace(self.pair, symbol=symbol)

    def set_decimals(self, price_decimals: int, qty_decimals: int) -> None:
        """Trade with other decimals from now on; earlier trades keep their values."""
        tape, finer = self.tape, price_decimals - self.digits.scale
        if finer > 0:
            factor = 10**finer
            tape.rescale(factor)
            self._late = [trade._replace(price=trade.price * factor) for trade in self._late]
        scale = max(self.digits.scale, price_decimals)
        self.pair = replace(self.pair, price_decimals=price_decimals, qty_decimals=qty_decimals)
        self.digits = Digits(price_decimals, qty_decimals, scale)
        self._on_grid = False
