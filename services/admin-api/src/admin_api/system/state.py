"""The state of the system as the bus reports it, in memory and bounded: instances, feeds, symbols, dead letters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from admin_api.system.candle_header import CandleHeader, decode_header
from ingress_common.minute_trades import trades_of
from ingress_common.model import FeedCondition, FeedState, InstanceState, MinuteTrades, Status, Watermark
from ingress_common.payloads import (
    PayloadError,
    decode_dead_letter,
    decode_feed_state,
    decode_status_on,
    decode_watermark,
)
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import Topics, symbol_of, topic_symbol
from ingress_common.unshown import UnshownSymbols, UnshownTrades

MAX_ENTRIES = 1_000
"""Maximum number of instances, of feeds, and of services with dead letters."""

MAX_SYMBOLS = 5_000
"""Maximum number of symbols; Kraken has about 1,450 pairs."""

MAX_BYTES = 4 * 1024 * 1024
"""Maximum total size of statuses, and of feed states, in bytes."""

AHEAD_SECONDS = 7 * 86_400.0
"""Maximum time of a message ahead of our clock. One further ahead would hide all correct ones that follow."""

CLOSED_AHEAD_SECONDS = 120.0
"""Maximum time from now, by the gateways' watermarks, to the end of a closed candle: nobody closes one before."""

EVICTABLE_SECONDS = 60.0
"""If the state is full, an entry without a message for this long is removed for a new one."""

WATERMARK_SECONDS = 10.0
"""Maximum age of a fresh feed's watermark."""

STATUS_MAX_AGE_SECONDS = 12.5
"""An instance without a status for this long is offline in `/health`: an online one repeats its status every 5 s."""


_SKEW_SECONDS = 60.0
_M1 = Timeframe.M1


class StateFullError(Exception):
    """The state has no room for another entry: more names are published than can exist."""


class AheadOfClockError(ValueError):
    """A message far ahead of our clock. It is ignored; if our clock is wrong, the message may be right."""


class _Entry(Protocol):
    @property
    def seen_at(self) -> float: ...

    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Instance:
    """The status of an instance, the time of its receipt (unix seconds), its size in bytes, and since when this process
    of it has been online and connected (unix seconds).
    """

    status: Status
    seen_at: float
    size: int = 0
    online_since: float = 0.0

    def continues(self, status: Status) -> bool:
        """Whether `status` is of the same process, which was online all the time."""
        before = self.status
        return before.state is status.state is InstanceState.ONLINE and before.started_at == status.started_at

    def is_online(self, now: float, max_age: float = STATUS_MAX_AGE_SECONDS) -> bool:
        """Whether its status is online and at most `max_age` seconds old."""
        return self.status.state is InstanceState.ONLINE and now - self.seen_at <= max_age


@dataclass(frozen=True, slots=True)
class Skew:
    """Seconds by which our clock is ahead of Kraken's time, by the watermarks of a feed.

    Each arrives some time after its stamp, so the least difference of the last minute or two counts. `began`: when
    `least` began to count (unix seconds); `before`: the least of the minute before.
    """

    least: float
    before: float
    began: float

    @property
    def seconds(self) -> float:
        """The least difference of the last minute or two."""
        return min(self.least, self.before)

    @classmethod
    def measured(cls, skew: "Skew | None", difference: float, now: float) -> "Skew":
        """`skew` with one more `difference`, measured at `now` (unix seconds)."""
        if skew is None or not 0 <= now - skew.began < 2 * _SKEW_SECONDS:
            return cls(difference, difference, now)
        if now - skew.began >= _SKEW_SECONDS:
            return cls(difference, skew.least, now)
        return replace(skew, least=min(skew.least, difference))


@dataclass(frozen=True, slots=True)
class ReportedFeed:
    """A feed's state and newest watermark; `carried`: its symbols, or its last ones if it is down.

    `seen_at`: receipt of the last message of either kind (unix seconds); `ran_at`: receipt of the last message that
    showed a running feed; `size`: bytes of the state; `skew`: how far our clock is ahead of Kraken's time.
    """

    state: FeedState
    carried: tuple[str, ...]
    watermark: Watermark | None = None
    seen_at: float = 0.0
    ran_at: float = 0.0
    size: int = 0
    skew: Skew | None = None

    def age(self, now: float) -> float | None:
        """Age of the watermark in seconds; None before the first one."""
        return None if self.watermark is None else now - self.watermark.watermark

    def is_fresh(self, now: float) -> bool:
        """Whether it is live and its watermark is at most WATERMARK_SECONDS old."""
        age = self.age(now)
        return self.state.state is FeedCondition.LIVE and age is not None and age <= WATERMARK_SECONDS


class ClosedCandle(Struct, frozen=True, gc=False):
    """The newest closed candle of a series: its open time, its `at`, and its first receipt (unix seconds)."""

    open_time: int
    at: float
    came: float


@dataclass(slots=True)
class SymbolState:
    """The freshness of a symbol: `at`, receipt (`came`) and `trades` of its newest minute, and the newest closed candle
    of each timeframe on the bus.

    `timeframes`: those with a candle, closed or forming. `stored`: the newest closed candles that are known to be in
    the store. `seen_at`: receipt of the last candle; `since`: of the first one. All in unix seconds.
    """

    seen_at: float
    since: float
    minute: int = 0
    at: float | None = None
    came: float = 0.0
    trades: int = 0
    timeframes: set[Timeframe] = field(default_factory=set)
    closed: dict[Timeframe, ClosedCandle] = field(default_factory=dict)
    stored: dict[Timeframe, ClosedCandle] = field(default_factory=dict)
    size: int = 0

    @property
    def closed_until(self) -> int | None:
        """The end of the newest closed minute; None before the first one."""
        newest = self.closed.get(_M1)
        return None if newest is None else newest.open_time + _M1.seconds

    def newest_closed(self, timeframe: Timeframe) -> int | None:
        """The open time of the newest closed candle, on the bus or in the store; None if neither is known to have any.

        Both count, because a closed candle that was published while the broker was away is not retained any more.
        """
        known = (self.closed.get(timeframe), self.stored.get(timeframe))
        return max((candle.open_time for candle in known if candle is not None), default=None)

    def lacks(self, open_time: int, trades: int) -> bool:
        """Whether these trades of a minute are not noted yet."""
        return trades > 0 and (open_time, trades) > (self.minute, self.trades)

    def take(self, candle: CandleHeader, now: float) -> None:
        """Note a candle that was received at `now`."""
        timeframe, open_time = candle.timeframe, candle.open_time
        self.seen_at = now
        self.timeframes.add(timeframe)
        if timeframe is _M1 and open_time >= self.minute:
            self.minute, self.at, self.came, self.trades = open_time, candle.at, now, candle.trades
        newest = self.closed.get(timeframe)
        if candle.closed and (newest is None or newest.open_time < open_time):
            self.closed[timeframe] = ClosedCandle(open_time, candle.at, now)


@dataclass(frozen=True, slots=True)
class DeadLetterCount:
    """The number of a service's dead letters, and the last one, received at `seen_at` (unix seconds)."""

    count: int
    reason: str
    topic: str
    at: float
    seen_at: float = 0.0
    size: int = 0


_K = TypeVar("_K")
_E = TypeVar("_E", bound=_Entry)


class SystemState:
    """Updated by `apply`; read from the dictionaries."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self.instances: dict[tuple[str, str], Instance] = {}
        self.feeds: dict[str, ReportedFeed] = {}
        self.symbols: dict[str, SymbolState] = {}
        self.dead_letters: dict[str, DeadLetterCount] = {}
        self.unshown = UnshownTrades()
        self.traded: set[str] = set()
        """Symbols without a candle here of which gateways have published trades."""
        self._unshown_symbols = UnshownSymbols()
        self._skew = 0.0  # our clock less the gateways' when the last watermark arrived

    def reconnected(self) -> None:
        """Candles may have been lost while the broker was disconnected."""
        self.unshown.clear()
        self._unshown_symbols.clear()
        self.traded.clear()

    def unshown_symbols(self, now: float, limit: float) -> list[str]:
        """The symbols whose trades gateways go on publishing while no 1m candle has arrived for more than `limit`
        seconds, sorted.
        """
        return sorted(self._unshown_symbols.late(self.symbols, now, limit))

    def filters(self) -> tuple[str, ...]:
        """The topic filters to subscribe to."""
        topics = self._topics
        return (
            topics.status("+", "+"),
            topics.feed("+"),
            topics.watermark("+"),
            topics.dead_letter("+"),
            topics.candles("+", "+"),
        )

    def apply(
        self,
        topic: str,
        payload: bytes,
        now: float,
        properties: Mapping[str, str] = MappingProxyType({}),
        *,
        retained: bool = False,
    ) -> CandleHeader | None:
        """Process a message that was received at `now` (unix seconds); returns the header if it is a candle.

        An empty payload deletes retained state. ValueError (PayloadError, TopicError) if the message is malformed,
        AheadOfClockError if it is far ahead of `now`, StateFullError if the state has no room for it.
        """
        match self._topics.split(topic):
            case ("status", service, instance):
                self._status((service, instance), topic, payload, now)
            case ("feed", _, feed):
                self._feed(feed, payload, now)
            case ("feed", _, feed, "watermark"):
                self._watermark(feed, payload, now, trades_of(properties))
            case ("candles", _, symbol, timeframe):
                if payload:
                    return self._candle(symbol, timeframe, payload, now, retained=retained)
                self._clear_candle(symbol_of(symbol), Timeframe.parse(timeframe))
            case ("dead-letter", service):
                self._dead_letter(service, payload, now)
            case _:
                raise PayloadError(f"expected a topic of the contract, got {topic!r}")
        return None

    def online(
        self, service: str, now: float, max_age: float = STATUS_MAX_AGE_SECONDS
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The instances of `service` that are online at `now` (unix seconds), with the details of their statuses."""
        for (of, name), entry in sorted(self.instances.items()):
            if of == service and entry.is_online(now, max_age):
                yield name, entry.status.details

    def live_since(self, now: float) -> dict[str, float]:
        """The symbols of fresh feeds at `now`, with the time since which each is live (unix seconds)."""
        since: dict[str, float] = {}
        for feed in self.feeds.values():
            if feed.is_fresh(now):
                since.update(dict.fromkeys(feed.state.symbols, feed.state.since))
        return since

    def _status(self, key: tuple[str, str], topic: str, payload: bytes, now: float) -> None:
        if not payload:
            self.instances.pop(key, None)
            return
        status = decode_status_on(topic, payload)
        _make_room(key, self.instances, now, MAX_ENTRIES, len(payload))
        before = self.instances.get(key)
        since = before.online_since if before and before.continues(status) else now
        self.instances[key] = Instance(status, now, len(payload), since)

    def _feed(self, name: str, payload: bytes, now: float) -> None:
        before = self.feeds.get(name)
        if not payload:
            # The retained state was deleted. Keep the feed while its watermarks continue.
            if before is not None and (before.watermark is None or now - before.seen_at > EVICTABLE_SECONDS):
                del self.feeds[name]
            return
        state = decode_feed_state(payload)
        if state.feed != name:
            raise PayloadError(f"expected the state of feed {name}, got {state.feed}")
        _make_room(name, self.feeds, now, MAX_ENTRIES, len(payload))
        carried = state.symbols or (before.carried if before and state.state is FeedCondition.DOWN else ())
        watermark, skew, ran_at = (before.watermark, before.skew, before.ran_at) if before else (None, None, 0.0)
        if state.state is FeedCondition.LIVE:
            ran_at = now
        self.feeds[name] = ReportedFeed(state, carried, watermark, now, ran_at, len(payload), skew)

    def _watermark(self, name: str, payload: bytes, now: float, published: MinuteTrades) -> None:
        watermark = decode_watermark(payload)
        if watermark.feed != name:
            raise PayloadError(f"expected a watermark of feed {name}, got one of {watermark.feed}")
        feed = self.feeds.get(name)
        # A gateway publishes a feed's retained state before its first watermark, so an unknown feed is ignored.
        if feed is not None:
            self._skew = now - watermark.at
            skew = Skew.measured(feed.skew, self._skew, now)
            feed = self.feeds[name] = replace(feed, skew=skew, seen_at=now, ran_at=now)
        _check_time(max(watermark.watermark, watermark.at), now)
        if feed is None:
            return
        self.feeds[name] = replace(feed, watermark=watermark)
        for minute, by_symbol in published.items():
            for published_name, trades in by_symbol.items():
                symbol = self.symbols.get(published_name)
                if symbol is None:
                    if trades and len(self.traded) < MAX_SYMBOLS:
                        self.traded.add(published_name)
                elif symbol.lacks(minute, trades):
                    self.unshown.published(now)
                    self._unshown_symbols.published(published_name, minute, trades, now)

    def _candle(self, name: str, timeframe: str, payload: bytes, now: float, *, retained: bool) -> CandleHeader:
        candle = decode_header(payload)
        if topic_symbol(candle.symbol) != name or candle.timeframe.value != timeframe:
            raise PayloadError(f"expected a candle of {name} {timeframe}, got {candle.symbol} {candle.timeframe.value}")
        _check_time(max(candle.open_time, candle.at), now)
        if candle.closed:
            _check_time(candle.open_time + candle.timeframe.seconds, now - self._skew, CLOSED_AHEAD_SECONDS)
        symbol = self.symbols.get(candle.symbol)
        if symbol is None:
            _make_room(candle.symbol, self.symbols, now, MAX_SYMBOLS)
            symbol = self.symbols[candle.symbol] = SymbolState(now, now)
            self.traded.discard(candle.symbol)
        self.unshown.arrived(candle, (symbol.minute, symbol.trades), now, retained=retained)
        symbol.take(candle, now)
        if candle.timeframe is _M1:
            self._unshown_symbols.shown(candle.symbol)
        return candle

    def _clear_candle(self, symbol: str, timeframe: Timeframe) -> None:
        """The retained candle of a series was deleted."""
        known = self.symbols.get(symbol)
        if known is not None:
            known.timeframes.discard(timeframe)
            known.closed.pop(timeframe, None)
            if not known.timeframes:
                del self.symbols[symbol]

    def _dead_letter(self, service: str, payload: bytes, now: float) -> None:
        letter = decode_dead_letter(payload)
        _make_room(service, self.dead_letters, now, MAX_ENTRIES)
        before = self.dead_letters.get(service)
        count = before.count + 1 if before else 1
        self.dead_letters[service] = DeadLetterCount(count, letter.reason, letter.topic, letter.at, now)


def _check_time(latest: float, now: float, ahead: float = AHEAD_SECONDS) -> None:
    if latest > now + ahead:
        raise AheadOfClockError(f"expected a time up to about {rfc3339(now)}, got {rfc3339(latest)}")


def _make_room(key: _K, entries: dict[_K, _E], now: float, limit: int, size: int = 0) -> None:
    """Make room for `key` with `size` bytes: remove the longest silent entries. StateFullError if none is silent."""
    others = sum(entry.size for name, entry in entries.items() if name != key) if size else 0
    while (key not in entries and len(entries) >= limit) or others + size > MAX_BYTES:
        oldest = min((name for name in entries if name != key), key=lambda name: entries[name].seen_at)
        if now - entries[oldest].seen_at <= EVICTABLE_SECONDS:
            raise StateFullError(f"expected at most {limit} entries with {MAX_BYTES} bytes, got another one: {key}")
        others -= entries.pop(oldest).size
