"""Sends snapshots and updates to the subscribed listeners."""

from collections.abc import Callable, Collection, Iterable

from kraken_simulator.directory import Directory
from kraken_simulator.faults import FaultBoard
from kraken_simulator.feeds import Topic, TopicFeed, Update, feed_of
from kraken_simulator.listeners import Listener
from kraken_simulator.market import Market
from kraken_simulator.quirks import deviating
from kraken_simulator.stats import Stats
from kraken_simulator.text import NANOS

_DELAYED_SECONDS = 20
_DELAY_SECONDS = 2


class FeedPublisher:
    """Sends every listener its subscribed topics, as far as the running faults allow."""

    def __init__(self, directory: Directory, faults: FaultBoard, stats: Stats) -> None:
        self._directory = directory
        self._faults = faults
        self._stats = stats
        self._feeds: dict[str, dict[Topic, tuple[TopicFeed, set[Listener]]]] = {}
        self._published: dict[str, int] = {}
        self._delayed: dict[Topic, tuple[int, str]] = {}

    def begin(self, symbol: str, time: int) -> None:
        """Start publishing a symbol: only trades after `time` (unix nanoseconds) are sent."""
        self._published[symbol] = time

    def subscribe(self, listener: Listener, topic: Topic, now: int) -> None:
        """Subscribe a listener to a topic, from the trades after `now` (unix nanoseconds) on."""
        market = self._directory.markets[topic.symbol]
        market.advance(now)
        self.publish(topic.symbol, market)
        feeds = self._feeds.setdefault(topic.symbol, {})
        if topic not in feeds:
            feeds[topic] = feed_of(topic, self._faults), set()
        feeds[topic][1].add(listener)

    def unsubscribe(self, listener: Listener, topic: Topic) -> None:
        """Undo `subscribe`."""
        feeds = self._feeds.get(topic.symbol, {})
        if topic in feeds:
            feeds[topic][1].discard(listener)
            if not feeds[topic][1]:
                del feeds[topic]

    def send_snapshot(self, listener: Listener, topic: Topic, now: int) -> None:
        """Send the current state of a subscribed topic."""
        market = self._directory.markets[topic.symbol]
        text = self._feeds[topic.symbol][topic][0].snapshot(market, now)
        self._stats.snapshots_sent += 1
        self._deliver([listener], topic.symbol, text)

    def publish(self, symbol: str, market: Market) -> None:
        """Send a market's trades since the last call."""
        last, published = market.last_time, self._published.get(symbol, 0)
        if last <= published:
            return
        self._published[symbol] = last
        feeds = self._feeds.get(symbol)
        if not feeds or not self._directory.is_listed(symbol):
            return
        first = market.tape.position_after(published)
        for topic, (feed, listeners) in feeds.items():
            for update in feed.updates(market, first):
                self._send_update(topic, update, listeners)

    def _send_update(self, topic: Topic, update: Update, listeners: Collection[Listener]) -> None:
        end = update.end
        delayed = end is not None and end - update.time <= _DELAYED_SECONDS * NANOS
        if end is not None and delayed and self._faults.on_symbol("late_frame", topic.symbol):
            self._delayed[topic] = end + _DELAY_SECONDS * NANOS, update.text
        else:
            self._stats.updates_sent += len(listeners)
            self._deliver(listeners, topic.symbol, update.text)

    def _deliver(self, listeners: Iterable[Listener], symbol: str, text: str) -> None:
        if not self._faults.running:
            for listener in tuple(listeners):
                listener.send_data(text)
            return
        stale = tuple(fault for fault in self._faults.of("blind") if fault.concerns(symbol))
        copies = 2 if self._faults.on_symbol("duplicate", symbol) else 1
        text = deviating(text, self._faults, symbol)
        for listener in tuple(listeners):
            if any(fault.reaches(listener.number) for fault in stale):
                self._stats.data_frames_lost += 1
                continue
            for _ in range(copies):
                listener.send_data(text)

    def release_delayed(self, due: Callable[[int], bool]) -> None:
        """Send the delayed frames for whose time (unix nanoseconds) `due` is true."""
        for topic, (time, text) in tuple(self._delayed.items()):
            if due(time):
                del self._delayed[topic]
                _, listeners = self._feeds.get(topic.symbol, {}).get(topic, (None, set[Listener]()))
                self._deliver(listeners, topic.symbol, text)
