"""Feeds: which feed carries which symbol, and which time it covers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite

from ingress_common.model import FeedCondition, FeedState, Range, Watermark
from ingress_common.times import rfc3339

MESSAGES_LOST = 10.0
"""Seconds between two watermarks of a feed, by the gateway's clock, beyond which messages must have been lost: it sends
one a second.
"""

REPEATED = 600.0
"""Seconds by which a watermark may be older than the last one to count as a repeat; beyond that it is a new start."""

MAX_JUMP = 30 * 86400.0
"""Seconds that a message may be ahead of what is known. Following one further ahead would never end."""

SUDDEN = 600.0
"""Seconds that a message may be ahead of the newest watermark of all feeds.

A watermark that is further ahead, or this far from its feed's last one, is followed once its feed continues from there.
"""

LOSING_SECONDS = 5.0
"""Seconds between a feed's first and last lost update beyond which it is no passing loss."""

LOSS_REMEMBERED = 30.0
"""Seconds after which a symbol without further updates no longer counts as lacking one."""

MAX_FEEDS = 1_000
MAX_COVERED = 20_000
MAX_SYMBOLS = 5_000
"""Limits: feeds, the symbols that they cover together, and the symbols of live feeds that are maintained. Kraken has
about 1,450 pairs, the simulator up to 5,000. Beyond a limit, feeds without a watermark are dropped first.
"""

_CONFIRMATIONS = 2
_NEVER = float("-inf")
# Looking a member up in an enum costs a fifth of following a watermark.
_LIVE = FeedCondition.LIVE


class ImplausibleError(ValueError):
    """A message has impossible times; the text names expected and received."""


@dataclass(slots=True)
class FeedCoverage:
    """A feed as this aggregator sees it, by the last `state` received.

    `starts`: by symbol, from when on all its updates have arrived here; None until a watermark shows it. `watched`: the
    symbols to look at with every watermark, not only once a minute: those without a seed or with gaps. `minute_end`:
    the end of the watermark's minute. `lost_until`: when (`at` of its watermarks) a loss of messages was last noticed;
    what the feed covers before that has not all arrived. `suspect`: its last implausible watermark. `lacking`: the
    symbols whose last update has not arrived, each with the time of that statement; `lacking_since`: the time since
    which there has always been one.
    """

    state: FeedState
    watermark: float = _NEVER
    minute_end: float = _NEVER
    at: float = _NEVER
    lost_until: float = _NEVER
    starts: dict[str, float | None] = field(default_factory=dict)
    watched: set[str] = field(default_factory=set)
    suspect: Watermark | None = None
    confirmations: int = 0
    lacking: dict[str, float] = field(default_factory=dict)
    lacking_since: float = _NEVER

    @property
    def live(self) -> bool:
        """Whether it delivers data."""
        return self.state.state is _LIVE

    @property
    def since(self) -> float:
        """When its present connection began (unix seconds)."""
        return self.state.since

    @property
    def reports(self) -> bool:
        """Whether one of its watermarks was followed since it began, or since the last reconnect."""
        return self.at != _NEVER

    def restart(self) -> None:
        """Discard its coverage up to now."""
        self.starts = dict.fromkeys(self.starts)
        self.watched = set(self.starts)
        self.watermark = _NEVER
        self.lacking.clear()

    def compare_updates(self, arrived: Mapping[str, bool]) -> None:
        """Note for each symbol whether its last update before a watermark has arrived."""
        lacking = self._recently_lacking
        if not lacking:
            self.lacking_since = self.at
        for symbol, came in arrived.items():
            if came:
                lacking.pop(symbol, None)
            else:
                lacking[symbol] = self.at
        self.lacking = lacking

    @property
    def losing(self) -> frozenset[str]:
        """The symbols whose last update has not arrived, if that has happened for LOSING_SECONDS."""
        recent = self._recently_lacking
        lasts = max(recent.values(), default=_NEVER) - self.lacking_since >= LOSING_SECONDS
        return frozenset(recent) if lasts else frozenset()

    @property
    def _recently_lacking(self) -> dict[str, float]:
        return {symbol: at for symbol, at in self.lacking.items() if self.at - at <= LOSS_REMEMBERED}

    def continues(self, mark: Watermark, newest: float) -> bool:
        """Whether to follow `mark`: at once if it continues from what is known, else once later marks confirm it."""
        plausible = newest == _NEVER or mark.watermark <= newest + SUDDEN
        if self.at != _NEVER:
            moved = mark.watermark - self.watermark if self.watermark != _NEVER else 0.0
            plausible = plausible and abs(mark.at - self.at) <= SUDDEN and abs(moved) <= SUDDEN
        elif plausible:
            plausible = mark.watermark <= self.since + MAX_JUMP
        last, self.suspect = self.suspect, None if plausible else mark
        follows = last is not None and (
            0 <= mark.at - last.at <= MESSAGES_LOST and 0 <= mark.watermark - last.watermark <= SUDDEN
        )
        self.confirmations = self.confirmations + 1 if follows and not plausible else 0
        return plausible or self.confirmations >= _CONFIRMATIONS


class Feeds:
    """All feeds, the symbols that they carry, and the time up to which they have reported.

    A message up to the time `reached` (a whole second) and received up to `plausible_receipt` needs no `check`.
    """

    def __init__(self) -> None:
        self._feeds: dict[str, FeedCoverage] = {}
        self._present_from: dict[str, float | None] = {}  # by symbol: the first watermark after it was gained
        self._unseen: set[str] = set()  # the symbols for which that is still to come
        self._newest = self._received = _NEVER  # watermark and `at` of the live feeds
        self.reached, self.plausible_receipt = 0, _NEVER

    def __len__(self) -> int:
        return len(self._feeds)

    @property
    def newest(self) -> float:
        """The newest watermark of the live feeds (unix seconds); minus infinity without one."""
        return self._newest

    def knows(self, feed: str) -> bool:
        """Whether a state of `feed` was received."""
        return feed in self._feeds

    def reports(self, feed: str) -> bool:
        """Whether a watermark of `feed` was followed since it began, or since the last reconnect."""
        return feed in self._feeds and self._feeds[feed].reports

    @property
    def losing(self) -> frozenset[str]:
        """Symbols of live feeds whose updates are repeatedly lost between gateway and aggregator."""
        return frozenset(symbol for feed in self._feeds.values() if feed.live for symbol in feed.losing)

    def carried(self, seeded: Callable[[str], bool]) -> frozenset[str]:
        """The symbols that live feeds carry, at most MAX_SYMBOLS: first those that are `seeded`, then those of feeds
        that send watermarks.
        """
        live = sorted((feed for feed in self._feeds.values() if feed.live), key=lambda feed: not feed.reports)
        symbols = dict.fromkeys(symbol for feed in live for symbol in feed.starts)
        return frozenset(islice(sorted(symbols, key=lambda symbol: not seeded(symbol)), MAX_SYMBOLS))

    def gain(self, symbols: Iterable[str]) -> None:
        """Cover `symbols` from the next watermark on."""
        for symbol in symbols:
            self._present_from[symbol] = None
            self._unseen.add(symbol)
            for feed in self._feeds.values():
                if symbol in feed.starts:
                    feed.starts[symbol] = None
                    feed.watched.add(symbol)

    def release(self, symbols: Iterable[str]) -> None:
        """Forget the coverage of `symbols`."""
        for symbol in symbols:
            self._present_from.pop(symbol, None)
            self._unseen.discard(symbol)

    def reconnected(self) -> None:
        """The broker was disconnected: messages may have been lost, and the feeds' progress is unknown."""
        for feed in self._feeds.values():
            feed.restart()
            feed.at = _NEVER
        self._present_from = dict.fromkeys(self._present_from)
        self._unseen = set(self._present_from)
        self._measure()

    def forget(self, name: str) -> None:
        """The feed's retained state was deleted. Forget the feed unless it has sent data since."""
        feed = self._feeds.get(name)
        if feed is not None and not feed.reports:
            del self._feeds[name]

    def repeats(self, state: FeedState) -> bool:
        """Whether `state` is the last one received of its feed."""
        feed = self._feeds.get(state.feed)
        return feed is not None and feed.state == state

    def left(self, state: FeedState) -> dict[str, Range]:
        """The symbols of a feed that its new live `state` no longer lists, and the time that it covered of each."""
        feed = self._feeds.get(state.feed)
        if feed is None or not feed.live or state.state is not _LIVE:
            return {}
        gone = {symbol: start for symbol, start in feed.starts.items() if symbol not in state.symbols}
        return {
            symbol: Range(start, feed.watermark)
            for symbol, start in gone.items()
            if start is not None and start < feed.watermark
        }

    def state(self, state: FeedState, *, retained: bool) -> bool:
        """Process a feed's state. Returns whether a live connection began with it.

        A `retained` state is old: later updates have not arrived here.
        """
        feed = self._feeds.get(state.feed)
        begins, was_live = feed is None or state.since != feed.since, feed is not None and feed.live
        if feed is None:
            feed = self._feeds[state.feed] = FeedCoverage(state)
        feed.state = state
        self._make_room(feed, len(state.symbols))
        if feed.live:
            known = feed.starts
            if begins:
                # A later start of the coverage does not bring back what was lost on the same connection.
                known = {symbol: None for symbol, start in known.items() if was_live and start is None}
            feed.starts = {
                symbol: known[symbol] if symbol in known else self._start(symbol, feed, retained=retained)
                for symbol in state.symbols
            }
            feed.watched = set(feed.starts)
            if begins:
                feed.watermark = _NEVER
                feed.lacking.clear()
                if not was_live:
                    feed.at = _NEVER
        self._measure()
        return begins and feed.live

    def _start(self, symbol: str, feed: FeedCoverage, *, retained: bool) -> float | None:
        """From when on all updates of a newly listed symbol have arrived; None if a watermark must show it.

        Everything of a feed that began after the first watermark received here has arrived.
        """
        present_from = self._present_from.get(symbol)
        if retained or present_from is None or feed.since < max(present_from, feed.lost_until):
            return None
        return feed.since

    def follow(self, mark: Watermark) -> tuple[FeedCoverage, bool] | None:
        """Move the feed up to its watermark. Returns it and whether a minute has ended since; None if the watermark
        brings nothing new.

        ImplausibleError if the mark is far from everything known and the feed has not continued from there.
        """
        feed = self._feeds.get(mark.feed)
        if feed is None or feed.state.state is not _LIVE:
            return None
        watermark, at = mark.watermark, mark.at
        plainly_next = 0.0 <= at - feed.at <= MESSAGES_LOST and 0.0 <= watermark - feed.watermark <= SUDDEN
        if plainly_next and feed.suspect is None and not self._unseen:
            feed.at = at
            feed.watermark = watermark
            if watermark > self._newest:
                self._newest = watermark
            if at > self._received:
                self._received = at
            if watermark < feed.minute_end:
                return feed, False
            while feed.minute_end <= watermark:
                feed.minute_end += 60.0
            self._set_plausible()
            return feed, True
        if 0 < feed.at - mark.at <= REPEATED and mark.watermark <= feed.watermark:
            return None  # an older one, repeated: nothing is new, and nothing is lost
        if not feed.continues(mark, self._newest):
            raise ImplausibleError(
                f"expected a watermark that continues from {_instant(feed.watermark)}, got {_instant(mark.watermark)}"
            )
        silent = mark.at - (feed.at if feed.reports else feed.since)
        # Messages of a feed that was not yet plausible may have been refused.
        if feed.confirmations or silent > MESSAGES_LOST or (feed.reports and silent < 0):
            feed.restart()
            feed.lost_until = mark.at
        if self._unseen:
            self._present_from |= dict.fromkeys(self._unseen, mark.at)
            self._unseen.clear()
        ended = mark.watermark // 60 * 60 > feed.watermark
        feed.at, feed.watermark = mark.at, mark.watermark
        feed.minute_end = mark.watermark // 60.0 * 60.0 + 60.0
        self._measure()
        return feed, ended

    def check(self, symbol: str, clock: float, latest: float, at: float | None) -> None:
        """ImplausibleError if a message's time (`latest`) or receipt (`at`) is in the future by the feeds' reports.

        `clock`: up to when the symbol's candles have closed.
        """
        newest = self._newest
        until = max(newest + SUDDEN, clock) if newest != _NEVER else clock + MAX_JUMP
        if latest > until != _NEVER:
            raise ImplausibleError(f"expected nothing of {symbol} after {_instant(until)}, got {_instant(latest)}")
        # During a replay of an archive the gateway's clock may be far from the market's time.
        if at is not None and self._received != _NEVER and at > max(self._received, newest) + SUDDEN:
            raise ImplausibleError(f"expected a receipt up to about {_instant(self._received)}, got {_instant(at)}")

    def _measure(self) -> None:
        live = [feed for feed in self._feeds.values() if feed.live and feed.reports]
        self._newest = max((feed.watermark for feed in live), default=_NEVER)
        self._received = max((feed.at for feed in live), default=_NEVER)
        self._set_plausible()

    def _set_plausible(self) -> None:
        newest, latest = self._newest, self._received
        self.reached = 0 if newest == _NEVER else int(newest)
        if newest > latest:
            latest = newest
        self.plausible_receipt = latest + SUDDEN

    def _make_room(self, feed: FeedCoverage, symbols: int) -> None:
        """Forget feeds if `feed` and its symbols exceed a limit: first those without watermarks and those not live."""
        total = sum(len(other.starts) for other in self._feeds.values() if other is not feed) + symbols
        if len(self._feeds) <= MAX_FEEDS and total <= MAX_COVERED:
            return
        for name, other in sorted(self._feeds.items(), key=lambda item: (item[1].reports, item[1].live)):
            if len(self._feeds) <= MAX_FEEDS and total <= MAX_COVERED:
                return
            if other is not feed:
                total -= len(other.starts)
                del self._feeds[name]


def _instant(instant: float) -> str:
    return rfc3339(instant) if isfinite(instant) else "the start"
