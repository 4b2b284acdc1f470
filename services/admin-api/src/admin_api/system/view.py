"""What the bus tells about the system, in memory and bounded: instances, feeds, symbols, dead letters."""

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from ingress_common.model import Candle, FeedCondition, FeedState, Presence, Status, Watermark
from ingress_common.payloads import (
    PayloadError,
    decode_candle,
    decode_dead_letter,
    decode_feed_state,
    decode_status_on,
    decode_watermark,
)
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import Topics

MAX_ENTRIES = 1_000
"""Instances, feeds and services with dead letters that are kept, each."""

MAX_SYMBOLS = 5_000
"""Symbols that are kept; Kraken has about 1,450 pairs."""

MAX_BYTES = 4 * 1024 * 1024
"""Bytes of status messages that are kept, and of feed states."""

AHEAD_SECONDS = 7 * 86_400.0
"""Seconds that a message may be ahead of our clock; what is further ahead would hide all that is true after it."""

SILENT_SECONDS = 60.0
"""After this long without a word an entry makes room where there is none."""


class ViewFullError(Exception):
    """Another entry does not fit; somebody publishes more names than there can be."""


class _Entry(Protocol):
    @property
    def seen_at(self) -> float: ...

    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class InstanceView:
    """The status of an instance, when it came (unix seconds), and how many bytes it had."""

    status: Status
    seen_at: float
    size: int = 0

    def is_online(self, now: float, silence: float) -> bool:
        """Whether it says so, and has said so within `silence` seconds."""
        return self.status.state is Presence.ONLINE and now - self.seen_at <= silence


@dataclass(frozen=True, slots=True)
class FeedView:
    """A feed's state and newest watermark; `carried`: its symbols, or those it last had if it has none now.

    `seen_at`: when either came last (unix seconds); `size`: bytes of the state.
    """

    state: FeedState
    carried: tuple[str, ...]
    watermark: Watermark | None = None
    seen_at: float = 0.0
    size: int = 0

    def age(self, now: float) -> float | None:
        """Seconds since the moment up to which the feed is complete; None before its first watermark."""
        return None if self.watermark is None else now - self.watermark.watermark

    def is_fresh(self, now: float, limit: float) -> bool:
        """Whether it is live and complete up to `limit` seconds ago."""
        age = self.age(now)
        return self.state.state is FeedCondition.LIVE and age is not None and age <= limit


@dataclass(frozen=True, slots=True)
class SymbolView:
    """The newest 1m candle of a symbol, and up to when its candles are closed (unix seconds, None: not known).

    `seen_at`: when the last of them came (unix seconds).
    """

    newest: Candle
    closed_until: int | None
    seen_at: float = 0.0
    size: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetterView:
    """How many dead letters of a service were seen, and the last one, which came at `seen_at` (unix seconds)."""

    count: int
    reason: str
    topic: str
    at: float
    seen_at: float = 0.0
    size: int = 0


_K = TypeVar("_K")
_E = TypeVar("_E", bound=_Entry)


class BusView:
    """Takes messages in with `apply`; what has been taken in is read from the dictionaries."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self.instances: dict[tuple[str, str], InstanceView] = {}
        self.feeds: dict[str, FeedView] = {}
        self.symbols: dict[str, SymbolView] = {}
        self.dead_letters: dict[str, DeadLetterView] = {}

    def filters(self) -> tuple[str, ...]:
        """What to subscribe to."""
        topics = self._topics
        return (
            topics.status("+", "+"),
            topics.feed("+"),
            topics.watermark("+"),
            topics.dead_letter("+"),
            topics.candles("+", "+"),
        )

    def apply(self, topic: str, payload: bytes, now: float) -> Candle | None:
        """Take a message in that came at `now` (unix seconds); gives the candle if it was one.

        An empty payload clears what was retained. ValueError (PayloadError, TopicError) if it makes no sense,
        ViewFullError if there is no room for it.
        """
        levels = self._topics.split(topic)
        match levels:
            case ("status", service, instance):
                self._status((service, instance), topic, payload, now)
            case ("feed", _, feed):
                self._feed(feed, payload, now)
            case ("feed", _, feed, "watermark"):
                self._watermark(feed, payload, now)
            case ("candles", _, _, _):
                return self._candle(topic, payload, now)
            case ("dead-letter", service):
                self._dead_letter(service, payload, now)
            case _:
                raise PayloadError(f"expected a topic of the contract, got {topic!r}")
        return None

    def _status(self, key: tuple[str, str], topic: str, payload: bytes, now: float) -> None:
        if not payload:
            self.instances.pop(key, None)
            return
        status = decode_status_on(topic, payload)
        _make_room(key, self.instances, now, MAX_ENTRIES, len(payload))
        self.instances[key] = InstanceView(status, now, len(payload))

    def _feed(self, feed: str, payload: bytes, now: float) -> None:
        if not payload:
            view = self.feeds.get(feed)
            # One whose watermarks go on is there, whoever takes its state away.
            if view is not None and (view.watermark is None or now - view.seen_at > SILENT_SECONDS):
                del self.feeds[feed]
            return
        state = decode_feed_state(payload)
        if state.feed != feed:
            raise PayloadError(f"expected the state of feed {feed}, got {state.feed}")
        _make_room(feed, self.feeds, now, MAX_ENTRIES, len(payload))
        before = self.feeds.get(feed)
        carried = state.symbols or (before.carried if before and state.state is FeedCondition.DOWN else ())
        watermark = before.watermark if before else None
        self.feeds[feed] = FeedView(state, carried, watermark, now, len(payload))

    def _watermark(self, feed: str, payload: bytes, now: float) -> None:
        watermark = decode_watermark(payload)
        if watermark.feed != feed:
            raise PayloadError(f"expected a watermark of feed {feed}, got one of {watermark.feed}")
        _check_time(max(watermark.watermark, watermark.at), now)
        view = self.feeds.get(feed)
        # A feed is known by its retained state, which is published before its first watermark.
        if view is not None:
            self.feeds[feed] = replace(view, watermark=watermark, seen_at=now)

    def _candle(self, topic: str, payload: bytes, now: float) -> Candle | None:
        if not payload:
            gone = [symbol for symbol in self.symbols if self._topics.candles(symbol, "1m") == topic]
            for symbol in gone:
                del self.symbols[symbol]
            return None
        candle = decode_candle(payload)
        if self._topics.candles(candle.symbol, candle.timeframe) != topic:
            raise PayloadError(f"expected a candle of {topic}, got {candle.symbol} {candle.timeframe.value}")
        _check_time(max(candle.open_time, candle.at), now)
        if candle.timeframe is Timeframe.M1:
            self._minute(candle, now)
        return candle

    def _minute(self, candle: Candle, now: float) -> None:
        _make_room(candle.symbol, self.symbols, now, MAX_SYMBOLS)
        before = self.symbols.get(candle.symbol)
        closed_until = before.closed_until if before else None
        if candle.closed:
            closed_until = max(candle.close_time, closed_until or 0)
        newest = before.newest if before and before.newest.open_time > candle.open_time else candle
        self.symbols[candle.symbol] = SymbolView(newest, closed_until, now)

    def _dead_letter(self, service: str, payload: bytes, now: float) -> None:
        letter = decode_dead_letter(payload)
        _make_room(service, self.dead_letters, now, MAX_ENTRIES)
        before = self.dead_letters.get(service)
        count = before.count + 1 if before else 1
        self.dead_letters[service] = DeadLetterView(count, letter.reason, letter.topic, letter.at, now)


def _check_time(latest: float, now: float) -> None:
    if latest > now + AHEAD_SECONDS:
        raise PayloadError(f"expected a time up to about {rfc3339(now)}, got {rfc3339(latest)}")


def _make_room(key: _K, entries: dict[_K, _E], now: float, limit: int, size: int = 0) -> None:
    """Let the longest silent ones go where `key` with `size` bytes is one too many; ViewFullError if all speak."""
    others = sum(entry.size for name, entry in entries.items() if name != key) if size else 0
    while (key not in entries and len(entries) >= limit) or others + size > MAX_BYTES:
        oldest = min((name for name in entries if name != key), key=lambda name: entries[name].seen_at)
        if now - entries[oldest].seen_at <= SILENT_SECONDS:
            raise ViewFullError(f"expected at most {limit} entries with {MAX_BYTES} bytes, got another one: {key}")
        others -= entries.pop(oldest).size
