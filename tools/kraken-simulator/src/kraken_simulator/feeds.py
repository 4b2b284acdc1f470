"""The channels of a symbol: snapshots for new subscribers, and updates from new trades."""

from typing import NamedTuple, Protocol

from kraken_simulator import frames
from kraken_simulator.book import EMPTY, Book, book_of, snapshot_frame, update_frame
from kraken_simulator.candles import SNAPSHOT_ROWS, LiveCandle, OhlcCandle, candle_before, latest_candles
from kraken_simulator.day import ticker_frame
from kraken_simulator.faults import FaultBoard
from kraken_simulator.frames import micros
from kraken_simulator.market import Market
from kraken_simulator.text import NANOS

_SNAPSHOT_TRADES = 50


class Topic(NamedTuple):
    """A subscription: channel, symbol, and interval (ohlc) or depth (book), else 0."""

    channel: str
    symbol: str
    number: int


class Update(NamedTuple):
    """A frame to send, the time of its last trade, and the end of its interval if it has one (unix nanoseconds)."""

    text: str
    time: int
    end: int | None = None


class TopicFeed(Protocol):
    """The frames of one topic."""

    def snapshot(self, market: Market, now: int) -> str:
        """Return the frame of the state at `now` (unix nanoseconds)."""

    def updates(self, market: Market, first: int) -> tuple[Update, ...]:
        """Return the frames of the trades from position `first` of the tape on."""


class OhlcFeed:
    """Candles of one interval: cumulative states, no frame at the boundary."""

    def __init__(self, minutes: int, faults: FaultBoard) -> None:
        self._minutes = minutes
        self._faults = faults
        self._live = LiveCandle(minutes)

    def snapshot(self, market: Market, now: int) -> str:
        """Return the last ten candles with trades."""
        candles = latest_candles(market.tape, self._minutes, SNAPSHOT_ROWS)
        return frames.ohlc_snapshot(market.pair.symbol, market.digits, candles, self._minutes, now)

    def updates(self, market: Market, first: int) -> tuple[Update, ...]:
        """Return a frame for each interval that the new trades touch."""
        return tuple(self._update(market, *state) for state in self._live.take(market.tape, first))

    def _update(self, market: Market, candle: OhlcCandle, time: int) -> Update:
        symbol, minutes = market.pair.symbol, self._minutes
        rows: tuple[OhlcCandle, ...] = (candle,)
        if self._faults.on_symbol("many_rows", symbol):
            before = candle_before(market.tape, minutes, candle.open_time)
            rows = (before, candle) if before else rows
        text = frames.ohlc_update(symbol, market.digits, rows, minutes, time)
        return Update(text, time, (candle.open_time + minutes * 60) * NANOS)


class TradeFeed:
    """Every trade of the symbol."""

    def snapshot(self, market: Market, now: int) -> str:  # noqa: ARG002 (as the port has it)
        """Return the last 50 trades."""
        tape = market.tape
        rows = tape.numbered(max(0, len(tape) - _SNAPSHOT_TRADES), len(tape))
        return frames.trades("snapshot", market.pair.symbol, market.digits, rows)

    def updates(self, market: Market, first: int) -> tuple[Update, ...]:
        """Return one frame of all new trades."""
        tape = market.tape
        rows = tape.numbered(first, len(tape))
        return (Update(frames.trades("update", market.pair.symbol, market.digits, rows), tape.time(-1)),)


class TickerFeed:
    """Best prices and the last 24 hours, on every trade."""

    def snapshot(self, market: Market, now: int) -> str:
        """Return the current ticker."""
        return ticker_frame("snapshot", market, now)

    def updates(self, market: Market, first: int) -> tuple[Update, ...]:
        """Return one frame if there are new trades."""
        if first >= len(market.tape):
            return ()
        return (Update(ticker_frame("update", market, market.tape.time(-1)), market.tape.time(-1)),)


class BookFeed:
    """The order book to one depth, and its changes."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._book: Book = EMPTY

    def snapshot(self, market: Market, now: int) -> str:
        """Return the whole book."""
        self._book = book_of(market.tape, market.digits, self._depth)
        return snapshot_frame(market.pair.symbol, market.digits, self._book, micros(now))

    def updates(self, market: Market, first: int) -> tuple[Update, ...]:
        """Return the levels that the new trades have changed."""
        if first >= len(market.tape):
            return ()
        before, self._book = self._book, book_of(market.tape, market.digits, self._depth)
        time = market.tape.time(-1)
        text = update_frame(market.pair.symbol, market.digits, before, self._book, micros(time))
        return (Update(text, time),) if text is not None else ()


def feed_of(topic: Topic, faults: FaultBoard) -> TopicFeed:
    """Return a new feed of a topic."""
    if topic.channel == "ohlc":
        return OhlcFeed(topic.number, faults)
    if topic.channel == "book":
        return BookFeed(topic.number)
    return TradeFeed() if topic.channel == "trade" else TickerFeed()
