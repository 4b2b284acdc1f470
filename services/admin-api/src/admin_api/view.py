"""What the bus tells about the system, in memory and bounded: instances, feeds, symbols, dead letters."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from ingress_common.model import Candle, FeedCondition, FeedState, Presence, Status, Watermark
from ingress_common.payloads import (
    PayloadError,
    decode_candle,
    decode_dead_letter,
    decode_feed_state,
    decode_status,
    decode_watermark,
)
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics

MAX_ENTRIES = 10_000
"""Instances, feeds and symbols that are kept, each; Kraken has about 1,450 pairs."""


class ViewFullError(Exception):
    """Another entry does not fit; somebody publishes more names than there can be."""


@dataclass(frozen=True, slots=True)
class InstanceView:
    """The status of an instance, and when it came (unix seconds)."""

    status: Status
    seen_at: float

    def is_online(self, now: float, silence: float) -> bool:
        """Whether it says so, and has said so within `silence` seconds."""
        return self.status.state is Presence.ONLINE and now - self.seen_at <= silence


@dataclass(frozen=True, slots=True)
class FeedView:
    """A feed's state and newest watermark; `carried`: its symbols, or those it last had if it has none now."""

    state: FeedState
    carried: tuple[str, ...]
    watermark: Watermark | None = None

    def age(self, now: float) -> float | None:
        """Seconds since the moment up to which the feed is complete; None before its first watermark."""
        return None if self.watermark is None else now - self.watermark.watermark

    def is_fresh(self, now: float, limit: float) -> bool:
        """Whether it is live and complete up to `limit` seconds ago."""
        age = self.age(now)
        return self.state.state is FeedCondition.LIVE and age is not None and age <= limit


@dataclass(frozen=True, slots=True)
class SymbolView:
    """The newest 1m candle of a symbol, and up to when its candles are closed (unix seconds, None: not known)."""

    newest: Candle
    closed_until: int | None


@dataclass(frozen=True, slots=True)
class DeadLetterView:
    """How many dead letters of a service were seen, and the last one."""

    count: int
    reason: str
    topic: str
    at: float


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
                self._status((service, instance), payload, now)
            case ("feed", _, feed):
                self._feed(feed, payload)
            case ("feed", _, feed, "watermark"):
                self._watermark(feed, payload)
            case ("candles", _, _, _):
                return self._candle(topic, payload)
            case ("dead-letter", service):
                self._dead_letter(service, payload)
            case _:
                raise PayloadError(f"expected a topic of the contract, got {topic!r}")
        return None

    def _status(self, key: tuple[str, str], payload: bytes, now: float) -> None:
        if not payload:
            self.instances.pop(key, None)
            return
        status = decode_status(payload)
        if (status.service, status.instance) != key:
            raise PayloadError(f"expected the status of {key[0]} {key[1]}, got {status.service} {status.instance}")
        _check_room(key, self.instances)
        self.instances[key] = InstanceView(status, now)

    def _feed(self, feed: str, payload: bytes) -> None:
        if not payload:
            self.feeds.pop(feed, None)
            return
        state = decode_feed_state(payload)
        if state.feed != feed:
            raise PayloadError(f"expected the state of feed {feed}, got {state.feed}")
        _check_room(feed, self.feeds)
        before = self.feeds.get(feed)
        carried = state.symbols or (before.carried if before and state.state is FeedCondition.DOWN else ())
        self.feeds[feed] = FeedView(state, carried, before.watermark if before else None)

    def _watermark(self, feed: str, payload: bytes) -> None:
        watermark = decode_watermark(payload)
        view = self.feeds.get(feed)
        # A feed is known by its retained state, which is published before its first watermark.
        if view is not None:
            self.feeds[feed] = replace(view, watermark=watermark)

    def _candle(self, topic: str, payload: bytes) -> Candle | None:
        if not payload:
            gone = [symbol for symbol in self.symbols if self._topics.candles(symbol, "1m") == topic]
            for symbol in gone:
                del self.symbols[symbol]
            return None
        candle = decode_candle(payload)
        if self._topics.candles(candle.symbol, candle.timeframe) != topic:
            raise PayloadError(f"expected a candle of {topic}, got {candle.symbol} {candle.timeframe.value}")
        if candle.timeframe is Timeframe.M1:
            self._minute(candle)
        return candle

    def _minute(self, candle: Candle) -> None:
        _check_room(candle.symbol, self.symbols)
        before = self.symbols.get(candle.symbol)
        closed_until = before.closed_until if before else None
        if candle.closed:
            closed_until = max(candle.close_time, closed_until or 0)
        newest = before.newest if before and before.newest.open_time > candle.open_time else candle
        self.symbols[candle.symbol] = SymbolView(newest, closed_until)

    def _dead_letter(self, service: str, payload: bytes) -> None:
        letter = decode_dead_letter(payload)
        _check_room(service, self.dead_letters)
        before = self.dead_letters.get(service)
        count = before.count + 1 if before else 1
        self.dead_letters[service] = DeadLetterView(count, letter.reason, letter.topic, letter.at)


def _check_room(key: object, entries: Collection[object]) -> None:
    if key not in entries and len(entries) >= MAX_ENTRIES:
        raise ViewFullError(f"expected at most {MAX_ENTRIES} entries, got another one: {key}")
