"""The exchange: markets that trade in real time, who listens to them, and the faults that come between."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import Enum
from itertools import count
from typing import Protocol

from kraken_simulator import frames
from kraken_simulator.candles import SNAPSHOT_ROWS, Candle
from kraken_simulator.clock import Clock, nanos
from kraken_simulator.config import SimulatorConfig
from kraken_simulator.faults import ONE_SHOT, SYSTEM_STATES, Fault, FaultBoard, FaultRequest
from kraken_simulator.market import Market
from kraken_simulator.stats import Stats
from kraken_simulator.text import NANOS

_HELD_BACK = 20
_HELD_UNTIL = 2
_REVEALED_AFTER = 2


class Ending(Enum):
    """How a connection ends."""

    CLIENT = "the client closed it"
    EOF = "TCP end without a close frame"
    RESET = "TCP reset"
    PROXY_RESTART = "close 1001"
    IDLE = "no subscription for too long"
    SLOW = "the client does not read"
    SHUTDOWN = "the simulator stops"


class Listener(Protocol):
    """A WebSocket connection, as the exchange sees it."""

    number: int
    hung: bool

    @property
    def subscriptions(self) -> Mapping[str, int]:
        """The interval in minutes by symbol."""

    @property
    def follows_instruments(self) -> bool:
        """Whether it subscribed to the list of pairs."""

    def send_data(self, text: str) -> None:
        """Send a frame that was not asked for."""

    def end(self, how: Ending) -> None:
        """End the connection."""


class Exchange:
    """Runs the markets by the clock and gives every listener what it subscribed to."""

    def __init__(self, markets: Mapping[str, Market], config: SimulatorConfig, clock: Clock, stats: Stats) -> None:
        self.markets = markets
        self.faults = FaultBoard()
        self.stats = stats
        self.config = config
        self.clock = clock
        self.listeners: set[Listener] = set()
        self._subscribers: dict[str, dict[int, set[Listener]]] = {}
        self._published: dict[str, int] = {}
        self._held: dict[tuple[str, int], tuple[int, str]] = {}
        self._connections = count(1)
        self._latest_connection = 0
        self._next_noise = 0.0

    # -- pairs -----------------------------------------------------------------------------------------------------

    def is_listed(self, symbol: str) -> bool:
        """Say whether a pair exists at present."""
        return symbol in self.markets and not self.faults.on_symbol("unlisted", symbol)

    @property
    def listed(self) -> Mapping[str, Market]:
        """The markets that exist at present."""
        return {symbol: market for symbol, market in self.markets.items() if self.is_listed(symbol)}

    # -- time ------------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Return the present in unix nanoseconds."""
        return nanos(self.clock())

    def open_for_trading(self) -> None:
        """Make the past of every market, which nobody hears of."""
        now = self.now()
        for symbol, market in self.markets.items():
            market.advance(now)
            self._published[symbol] = market.tape.time(-1) if len(market.tape) else 0

    def step(self) -> None:
        """Do what is due: trades, frames, the ends of faults."""
        now = self.now()
        for fault in self.faults.take(lambda fault: fault.until * NANOS <= now):
            self._finish(fault)
        for symbol, market in self.markets.items():
            market.advance(now)
            self._publish(symbol, market)
        self._release_held(lambda due: due <= now)
        self._make_noise()

    # -- listeners -------------------------------------------------------------------------------------------------

    def connect(self, listener: Listener) -> None:
        """Take in a connection and number it; it hangs from the start if a fault says so."""
        listener.number = self._latest_connection = next(self._connections)
        listener.hung = any(fault.new_connections for fault in self.faults.of("half_open"))
        self.listeners.add(listener)

    def disconnect(self, listener: Listener) -> None:
        """Forget a connection."""
        self.listeners.discard(listener)
        for symbol, minutes in listener.subscriptions.items():
            self.unsubscribe(listener, symbol, minutes)

    def subscribe(self, listener: Listener, symbol: str, minutes: int) -> None:
        """Let a listener have the updates of a symbol's interval."""
        self._subscribers.setdefault(symbol, {}).setdefault(minutes, set()).add(listener)

    def unsubscribe(self, listener: Listener, symbol: str, minutes: int) -> None:
        """Undo `subscribe`."""
        by_interval = self._subscribers.get(symbol, {})
        listeners = by_interval.get(minutes, set())
        listeners.discard(listener)
        if not listeners:
            by_interval.pop(minutes, None)

    def send_snapshot(self, listener: Listener, symbol: str, minutes: int) -> None:
        """Send the last traded candles of a symbol's interval."""
        market, now = self.markets[symbol], self.now()
        market.advance(now)
        text = frames.ohlc_snapshot(market.pair, market.series(minutes).latest(SNAPSHOT_ROWS), minutes, now)
        self.stats.snapshots_sent += 1
        self._deliver([listener], symbol, text)

    def is_silent(self, listener: Listener) -> bool:
        """Say whether a listener gets nothing but acks."""
        return any(
            fault.reaches(listener.number) and (fault.symbol is None or fault.symbol in listener.subscriptions)
            for fault in self.faults.of("silent")
        )

    # -- frames ----------------------------------------------------------------------------------------------------

    def _publish(self, symbol: str, market: Market) -> None:
        tape = market.tape
        if not len(tape) or tape.time(-1) == self._published[symbol]:
            return
        first, self._published[symbol] = tape.position_after(self._published[symbol]), tape.time(-1)
        for minutes, listeners in self._subscribers.get(symbol, {}).items():
            series = market.series(minutes)
            latest: dict[int, int] = {}
            for time, _, _ in tape.states(first, len(tape)):
                latest[frames.minute_of(time, minutes)] = time
            for open_time, time in latest.items():
                candle = series.at(open_time)
                if candle is None:
                    continue
                previous = series.before(open_time) if self.faults.on_symbol("many_rows", symbol) else None
                rows = (previous, candle) if previous else (candle,)
                self._send_update(symbol, minutes, rows, time, listeners)

    def _send_update(
        self, symbol: str, minutes: int, rows: Iterable[Candle], time: int, listeners: Iterable[Listener]
    ) -> None:
        text = frames.ohlc_update(self.markets[symbol].pair, rows, minutes, time)
        end = (frames.minute_of(time, minutes) + minutes * 60) * NANOS
        if end - time <= _HELD_BACK * NANOS and self.faults.on_symbol("late_frame", symbol):
            self._held[symbol, minutes] = (end + _HELD_UNTIL * NANOS, text)
        else:
            self.stats.updates_sent += len(tuple(listeners))
            self._deliver(listeners, symbol, text)

    def _deliver(self, listeners: Iterable[Listener], symbol: str, text: str) -> None:
        blind = tuple(fault for fault in self.faults.of("blind") if fault.concerns(symbol))
        copies = 2 if self.faults.on_symbol("duplicate", symbol) else 1
        for listener in tuple(listeners):
            if any(fault.reaches(listener.number) for fault in blind):
                self.stats.data_frames_lost += 1
                continue
            for _ in range(copies):
                listener.send_data(text)

    def _release_held(self, due: Callable[[int], bool]) -> None:
        for (symbol, minutes), (time, text) in tuple(self._held.items()):
            if due(time):
                del self._held[symbol, minutes]
                self._deliver(self._subscribers.get(symbol, {}).get(minutes, ()), symbol, text)

    def _make_noise(self) -> None:
        now = self.clock()
        if now < self._next_noise <= now + 1:
            return
        self._next_noise = now + 1
        for kind, text in (("not_json", frames.NOT_JSON), ("unknown_message", frames.UNKNOWN_MESSAGE)):
            for fault in self.faults.of(kind):
                for listener in self._concerned(fault.symbol):
                    listener.send_data(text)

    # -- faults ----------------------------------------------------------------------------------------------------

    def start_fault(self, request: FaultRequest) -> Fault:
        """Start a fault now, or do it at once if it is of the kind that is over at once."""
        self.step()
        now = self.clock()
        new = request.kind == "silent" if request.new_connections is None else request.new_connections
        number, latest = self.faults.next_number(), self._latest_connection
        fault = Fault(number, request.kind, request.symbol, now, now + request.seconds, new, latest)
        if request.kind in ("revised_snapshot", "rest_revision"):
            fault = self._with_unseen_trades(fault)
        if request.kind not in ONE_SHOT:
            self.faults.add(fault)
        self._begin(fault)
        return fault

    def end_faults(self) -> tuple[Fault, ...]:
        """End every fault and return them."""
        self.step()
        ended = self.faults.take(lambda _: True)
        for fault in ended:
            self._finish(fault)
        return ended

    def _begin(self, fault: Fault) -> None:
        endings = {
            "eof": Ending.EOF,
            "outage": Ending.EOF,
            "rst": Ending.RESET,
            "close_1001": Ending.PROXY_RESTART,
        }
        if fault.kind in endings:
            self._drop(fault.symbol if fault.kind in ONE_SHOT else None, endings[fault.kind])
        elif fault.kind == "half_open":
            for listener in self._concerned(fault.symbol):
                listener.hung = True
        elif fault.kind in SYSTEM_STATES:
            self._show_system_state()
        elif fault.kind == "unlisted":
            self._halt()
            self._show_instruments(fault.symbol)

    def _finish(self, fault: Fault) -> None:
        if fault.kind == "half_open":
            if not self.faults.on("half_open"):
                for listener in tuple(self.listeners):
                    if listener.hung:
                        listener.end(Ending.RESET)
        elif fault.kind in SYSTEM_STATES:
            self._advance()
            self._show_system_state()
        elif fault.kind == "unlisted":
            self._advance()
            self._halt()
            self._show_instruments(fault.symbol)
        elif fault.kind == "late_frame":
            self._release_held(lambda _: True)
        for symbol, trade in fault.unseen:
            self.markets[symbol].reveal(trade)
        if fault.kind == "revised_snapshot":
            self._drop(fault.symbol, Ending.RESET, subscribed=True)

    def _with_unseen_trades(self, fault: Fault) -> Fault:
        now = self.now()
        symbols = self.markets if fault.symbol is None else (fault.symbol,)
        unseen = tuple((symbol, self.markets[symbol].trade_unseen(now)) for symbol in symbols)
        minute_over = frames.minute_of(now, 1) + 60 + _REVEALED_AFTER
        return replace(fault, until=max(fault.until, minute_over), unseen=unseen)

    def _show_system_state(self) -> None:
        system = self.faults.system
        self._halt()
        for listener in tuple(self.listeners):
            listener.send_data(frames.status(system, connection_id(self.config.seed, listener.number)))

    def _advance(self) -> None:
        now = self.now()
        for market in self.markets.values():
            market.advance(now)

    def _halt(self) -> None:
        for symbol, market in self.markets.items():
            market.halted = self.faults.system != "online" or not self.is_listed(symbol)

    def _show_instruments(self, symbol: str | None) -> None:
        markets = self.markets.values() if symbol is None else (self.markets[symbol],)
        pairs = {
            market.pair: self.faults.system if self.is_listed(market.pair.symbol) else "delisted" for market in markets
        }
        text = frames.instrument_update(pairs)
        for listener in tuple(self.listeners):
            if listener.follows_instruments:
                listener.send_data(text)

    def _drop(self, symbol: str | None, how: Ending, *, subscribed: bool = False) -> None:
        for listener in self._concerned(symbol):
            if listener.subscriptions or not subscribed:
                self.stats.connections_dropped += 1
                listener.end(how)

    def _concerned(self, symbol: str | None) -> tuple[Listener, ...]:
        return tuple(listener for listener in self.listeners if symbol is None or symbol in listener.subscriptions)


def connection_id(seed: int, number: int) -> int:
    """Return the id of a connection: 64 bits without a sign, every second one beyond a signed integer (fact 7)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9) & (2**63 - 1)
    return mixed | (number % 2) << 63
