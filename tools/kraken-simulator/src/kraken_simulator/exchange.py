"""The exchange: markets that trade in real time, their listeners, and faults."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import count
from math import inf

from kraken_simulator import frames, instruments
from kraken_simulator.changes import Changes
from kraken_simulator.clock import Clock, nanos
from kraken_simulator.config import SimulatorConfig
from kraken_simulator.directory import Directory
from kraken_simulator.faults import CHANGES, ONE_SHOT, SYSTEM_STATES, Fault, FaultBoard, FaultRequest
from kraken_simulator.listeners import Ending, Listener, connection_id
from kraken_simulator.market import Market
from kraken_simulator.pace import Plan, factor_for
from kraken_simulator.pairs import ASSET_CLASSES
from kraken_simulator.publisher import FeedPublisher
from kraken_simulator.schedule import Schedule
from kraken_simulator.stats import Stats
from kraken_simulator.text import NANOS

_REVEALED_AFTER = 2
_DEFAULT_SECONDS = 30.0
_ENDINGS = {
    "eof": Ending.EOF,
    "outage": Ending.EOF,
    "rst": Ending.RESET,
    "close_1001": Ending.PROXY_RESTART,
    "close_1008": Ending.POLICY,
}


class Exchange:
    """Runs the markets by the clock and sends every listener its subscriptions."""

    def __init__(self, markets: Mapping[str, Market], config: SimulatorConfig, clock: Clock, stats: Stats) -> None:
        self.faults = FaultBoard()
        self.directory = Directory(markets, self.faults)
        self.stats = stats
        self.config = config
        self.clock = clock
        self.listeners: set[Listener] = set()
        self.publisher = FeedPublisher(self.directory, self.faults, stats)
        self._changes = Changes(self.directory, config.seed)
        self._schedule = Schedule()
        self._connections = count(1)
        self._latest_connection = 0
        self._next_noise = 0.0
        self._started = clock()
        self._plan = Plan(config.rate, config.burst_rate, config.burst_seconds, config.burst_every)
        self._set_rate: tuple[float, float] | None = None
        self._ticks = config.rate

    @property
    def markets(self) -> Mapping[str, Market]:
        """All markets by their symbol."""
        return self.directory.markets

    # -- time ------------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Return the current time in unix nanoseconds."""
        return nanos(self.clock())

    def open_for_trading(self, *, past_at_once: bool) -> None:
        """Trade in every market up to now without sending frames. `past_at_once`: create the past now."""
        now = self.now()
        for market in self.markets.values():
            market.advance(now)
            if past_at_once:
                market.make_past()
        for symbol, market in self.markets.items():
            self._schedule.set(symbol, market.next_time)
            self.publisher.begin(symbol, now)

    def step(self) -> None:
        """Do everything that is due: trades, frames, ends of faults."""
        now = self.now()
        if self.faults.running:
            for fault in self.faults.take(lambda fault: fault.until * NANOS <= now):
                self._finish(fault)
        self._keep_pace(now)
        for symbol in self._schedule.take_due(now):
            market = self.markets.get(symbol)
            if market is not None:
                market.advance(now)
                self.publisher.publish(symbol, market)
                self._schedule.set(symbol, market.next_time)
        self.publisher.release_delayed(lambda due: due <= now)
        if self.faults.running:
            self._make_noise()

    # -- pace ------------------------------------------------------------------------------------------------------

    @property
    def ticks(self) -> float | None:
        """The current total rate in ticks per second; None for the markets' own pace."""
        return self._ticks

    def set_rate(self, ticks: float, seconds: float | None) -> None:
        """Trade `ticks` per second over all synthetic markets for `seconds` (None: for good)."""
        self._set_rate = ticks, self.clock() + seconds if seconds is not None else inf
        self._keep_pace(self.now())

    def end_rate(self) -> None:
        """Return to the rate of the settings."""
        self._set_rate = None
        self._keep_pace(self.now())

    def _keep_pace(self, now: int) -> None:
        if self._set_rate is not None and self.clock() >= self._set_rate[1]:
            self._set_rate = None
        ticks = self._set_rate[0] if self._set_rate else self._plan.ticks_at(self.clock() - self._started)
        if ticks == self._ticks:
            return
        self._ticks = ticks
        factor = self.config.activity
        if ticks is not None:
            rates = [market.usual_rate for market in self.markets.values() if market.usual_rate]
            factor = factor_for(ticks, rates, self.config.poll_seconds)
        for symbol, market in self.markets.items():
            market.set_pace(factor, now)
            self.publisher.publish(symbol, market)
            self._schedule.set(symbol, market.next_time)

    # -- listeners -------------------------------------------------------------------------------------------------

    def connect(self, listener: Listener) -> None:
        """Add a connection and number it. During a `half_open` fault it may hang from the start."""
        listener.number = self._latest_connection = next(self._connections)
        listener.hung = any(fault.new_connections for fault in self.faults.of("half_open"))
        self.listeners.add(listener)

    def disconnect(self, listener: Listener) -> None:
        """Remove a connection."""
        self.listeners.discard(listener)
        for topic in tuple(listener.topics):
            self.publisher.unsubscribe(listener, topic)

    def is_silent(self, listener: Listener) -> bool:
        """Return whether a listener gets only acks."""
        return bool(self.faults.running) and any(
            fault.reaches(listener.number) and (fault.symbol is None or listener.follows(fault.symbol))
            for fault in self.faults.of("silent")
        )

    def _make_noise(self) -> None:
        now = self.clock()
        if now < self._next_noise <= now + 1:
            return
        self._next_noise = now + 1
        for kind, text in (("not_json", frames.NOT_JSON), ("unknown_message", frames.UNKNOWN_MESSAGE)):
            for fault in self.faults.of(kind):
                for listener in self._concerned(fault.symbol):
                    listener.send_data(text)
        for fault in self.faults.of("status_frames"):
            self._show_system_state(self._concerned(fault.symbol))

    # -- faults ----------------------------------------------------------------------------------------------------

    def start_fault(self, request: FaultRequest) -> Fault:
        """Start a fault, or execute it if it is a one-shot fault. FaultError if a change of a pair is impossible."""
        self.step()
        now = self.clock()
        new = request.kind == "silent" if request.new_connections is None else request.new_connections
        number, latest = self.faults.next_number(), self._latest_connection
        seconds = _DEFAULT_SECONDS if request.seconds is None else request.seconds
        fault = Fault(number, request.kind, request.symbol, now, now + seconds, new, latest)
        if request.kind in CHANGES:
            return self._start_change(fault, request)
        if request.kind in ("revised_snapshot", "rest_revision"):
            fault = self._with_unseen_trades(fault)
        if request.kind not in ONE_SHOT:
            self.faults.add(fault)
        self._begin(fault)
        return fault

    def _start_change(self, fault: Fault, request: FaultRequest) -> Fault:
        fault = replace(fault, undo=self._change(request))
        if request.seconds is None:
            return replace(fault, until=inf)
        self.faults.add(fault)
        return fault

    def end_faults(self) -> tuple[Fault, ...]:
        """End every fault and return them."""
        self.step()
        ended = self.faults.take(lambda _: True)
        for fault in ended:
            self._finish(fault)
        return ended

    def _change(self, request: FaultRequest) -> FaultRequest:
        now = self.now()
        self._advance(now)
        before = {symbol: self.directory.status_of(market) for symbol, market in self.markets.items()}
        gone = self.markets.get(request.symbol or "")
        pair = gone.pair if gone is not None else None
        undo = self._changes.make(request, now)
        self._halt()
        changed = [market for symbol, market in self.markets.items() if self._has_changed(market, before.get(symbol))]
        listings = [(market.pair, self.directory.status_of(market)) for market in changed]
        if request.kind == "reprecision" and gone is not None:
            listings.append((gone.pair, self.directory.status_of(gone)))
        if request.kind == "rename" and pair is not None:
            listings.insert(0, (pair, "delisted"))
        if request.to is not None:
            self.publisher.begin(request.to, self.markets[request.to].last_time)
        for symbol, market in self.markets.items():
            self._schedule.set(symbol, market.next_time)
        self._show_instruments(listings)
        return undo

    def _has_changed(self, market: Market, before: str | None) -> bool:
        return self.directory.status_of(market) != before

    def _begin(self, fault: Fault) -> None:
        if fault.kind in _ENDINGS:
            self._drop(fault.symbol if fault.kind in ONE_SHOT else None, _ENDINGS[fault.kind])
        elif fault.kind == "half_open":
            for listener in self._concerned(fault.symbol):
                listener.hung = True
        elif fault.kind in SYSTEM_STATES:
            self._halt()
            self._show_system_state(tuple(self.listeners))
        elif fault.kind == "unlisted":
            self._halt()
            self._show_pairs_of(fault)

    def _finish(self, fault: Fault) -> None:
        if fault.undo is not None:
            self._change(fault.undo)
        elif fault.kind == "half_open":
            if not self.faults.on("half_open"):
                for listener in tuple(self.listeners):
                    if listener.hung:
                        listener.end(Ending.RESET)
        elif fault.kind in SYSTEM_STATES:
            self._advance(self.now())
            self._halt()
            self._show_system_state(tuple(self.listeners))
        elif fault.kind == "unlisted":
            self._advance(self.now())
            self._halt()
            self._show_pairs_of(fault)
        elif fault.kind == "late_frame":
            self.publisher.release_delayed(lambda _: True)
        for symbol, time in fault.unseen:
            market = self.directory.truth_of(symbol)
            if market is not None:
                market[0].reveal(time)
        if fault.kind == "revised_snapshot":
            self._drop(fault.symbol, Ending.RESET, subscribed=True)

    def _with_unseen_trades(self, fault: Fault) -> Fault:
        now = self.now()
        symbols = self.markets if fault.symbol is None else (fault.symbol,)
        unseen = tuple((symbol, self.markets[symbol].trade_unseen(now).time) for symbol in symbols)
        minute_over = now // NANOS // 60 * 60 + 60 + _REVEALED_AFTER
        return replace(fault, until=max(fault.until, minute_over), unseen=unseen)

    def _show_system_state(self, listeners: Iterable[Listener]) -> None:
        for listener in listeners:
            listener.send_data(frames.status(self.faults.system, connection_id(self.config.seed, listener.number)))

    def _advance(self, now: int) -> None:
        """Trade up to `now` in every market, and send it under the name and the status that each still has."""
        for symbol, market in self.markets.items():
            market.advance(now)
            self.publisher.publish(symbol, market)

    def _halt(self) -> None:
        for market in self.markets.values():
            market.halted = self.directory.halts(market)

    def _show_pairs_of(self, fault: Fault) -> None:
        markets = self.markets.values() if fault.symbol is None else (self.markets[fault.symbol],)
        self._show_instruments([(market.pair, self.directory.status_of(market)) for market in markets])

    def _show_instruments(self, listings: Collection[instruments.Listing]) -> None:
        for asset_class in ASSET_CLASSES:
            shown = [(pair, status) for pair, status in listings if pair.asset_class == asset_class]
            if shown:
                text = instruments.update(shown)
                for listener in tuple(self.listeners):
                    if asset_class in listener.instruments:
                        listener.send_data(text)

    def _drop(self, symbol: str | None, how: Ending, *, subscribed: bool = False) -> None:
        for listener in self._concerned(symbol):
            if listener.topics or not subscribed:
                self.stats.connections_dropped += 1
                listener.end(how)

    def _concerned(self, symbol: str | None) -> tuple[Listener, ...]:
        return tuple(listener for listener in self.listeners if symbol is None or listener.follows(symbol))
