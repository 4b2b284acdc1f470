"""The engine: which feed speaks for which symbol, and what to ask the gateway for."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite

from aggregator.core.book import ASKED_FOR, Book, Depth, final_until
from aggregator.core.rebuild import Rebuild
from ingress_common.model import (
    GRACE,
    Candle,
    FeedCondition,
    FeedState,
    History,
    HistoryRequest,
    Range,
    SeedRequest,
    Watermark,
)
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339

Output = Candle | SeedRequest | HistoryRequest
"""What the engine wants published: candles, and requests to the gateway."""

MESSAGES_LOST = 10.0
"""Seconds between two watermarks of a feed, by the gateway's clock, from which on messages must have been lost: it
sends one a second.
"""

REPEATED = 600.0
"""Seconds by which a watermark may be older than the last one to count as a repeat; beyond that it is a new start."""

MAX_JUMP = 30 * 86400.0
"""Seconds that a message may be ahead of what is known.

Further ahead it is nonsense, and following it would never end.
"""

SUDDEN = 600.0
"""Seconds that a message may be ahead of the newest watermark of all feeds.

A watermark that is further ahead, or this far from its feed's last one, is followed once its feed goes on from there.
"""

MAX_FEEDS = 1_000
MAX_CLAIMS = 20_000
MAX_SYMBOLS = 2_000
"""Feeds, the symbols that they claim together, and the symbols of live feeds that are looked at; Kraken has about
1,450 pairs. Where there are more, those of feeds that have said nothing but that they are there go first.
"""

LATE = 300.0
"""Seconds before a gap that are asked for with it: Kraken's late word on a minute that was closed by then may have
fallen into the gap.
"""

PUBLISHED_AGAIN = 120.0
"""Seconds whose closed candles are published again after a reconnect: a broker that was killed comes back as it was at
its last save, some seconds ago.
"""

MOST_WINDOWS = 50_000
"""Windows that an answer may cover; nobody asks for more."""

_SEED_AGAIN = 15.0
_ASK_AGAIN = (15.0, 900.0)
_REBUILDS = 16
_CONFIRMATIONS = 2


class ImplausibleError(ValueError):
    """A message whose times cannot be; the message says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Time of a symbol and timeframe that is not known; `lost` if it was given up on."""

    symbol: str
    timeframe: Timeframe
    range: Range
    lost: bool


@dataclass(slots=True)
class _Feed:
    """A feed as the engine sees it.

    `starts`: from when on this engine has everything of a symbol; None until a watermark tells. `lost_until`: when (its
    watermarks' `at`) it was last noticed that messages were lost; what it claims of the time before is not all here.
    """

    live: bool = False
    since: float = 0.0
    watermark: float = float("-inf")
    at: float = float("-inf")
    lost_until: float = float("-inf")
    starts: dict[str, float | None] = field(default_factory=dict)
    doubted: Watermark | None = None
    confirmations: int = 0

    @property
    def spoken(self) -> bool:
        """Whether a watermark of it has been followed since it was last renewed."""
        return self.at != float("-inf")

    def goes_on(self, mark: Watermark, newest: float) -> bool:
        """Whether `mark` may be followed: at once where it goes on from what is known, else when it is confirmed."""
        close = mark.watermark <= newest + SUDDEN if newest != float("-inf") else True
        if self.spoken:
            moved = mark.watermark - self.watermark if isfinite(self.watermark) else 0.0
            close = close and abs(mark.at - self.at) <= SUDDEN and abs(moved) <= SUDDEN
        elif close:
            close = mark.watermark <= self.since + MAX_JUMP
        last, self.doubted = self.doubted, None if close else mark
        follows = last is not None and (
            0 <= mark.at - last.at <= MESSAGES_LOST and 0 <= mark.watermark - last.watermark <= SUDDEN
        )
        self.confirmations = self.confirmations + 1 if follows and not close else 0
        return close or self.confirmations >= _CONFIRMATIONS


@dataclass(slots=True)
class _Asked:
    """What was last asked for a symbol, and (on its clock) when to ask again."""

    again: float = float("-inf")
    wait: float = _ASK_AGAIN[0]
    spans: list[tuple[Timeframe, Range]] = field(default_factory=list)


class Engine:
    """Candles of the symbols it was given, as a function of the messages it is fed, in the order of their arrival.

    Every method returns what is to be published, in order. `give_up_after`: seconds, on a symbol's clock, after which a
    gap that nobody fills is given up on; None for never.
    """

    def __init__(self, depth: Depth | None = None, give_up_after: float | None = 86400.0) -> None:
        self._depth = depth or Depth()
        self._give_up_after = give_up_after
        self._books: dict[str, Book] = {}
        self._feeds: dict[str, _Feed] = {}
        self._asked: dict[str, _Asked] = {}
        self._changed: dict[str, float] = {}
        self._rebuilds: dict[str, Rebuild] = {}  # the most recent one last
        self._here_from: dict[str, float | None] = {}

    # --- which symbols -----------------------------------------------------------------------------------------------

    @property
    def carried(self) -> frozenset[str]:
        """The symbols that live feeds carry, at most MAX_SYMBOLS: first those that have their seed, then those of feeds
        that have told of the time.
        """
        live = [feed for feed in self._feeds.values() if feed.live]
        symbols = dict.fromkeys(symbol for feed in live if feed.spoken for symbol in feed.starts)
        symbols |= dict.fromkeys(symbol for feed in live if not feed.spoken for symbol in feed.starts)
        return frozenset(islice(sorted(symbols, key=lambda symbol: not self._seeded(symbol)), MAX_SYMBOLS))

    def _seeded(self, symbol: str) -> bool:
        book = self._books.get(symbol)
        return book is not None and book.seeded

    @property
    def books(self) -> dict[str, Book]:
        """The books, by symbol."""
        return self._books

    def gain(self, symbols: Iterable[str]) -> None:
        """Look after `symbols` from now on; their ticks and history must be subscribed to already."""
        for symbol in symbols:
            self._books.setdefault(symbol, Book(symbol, self._depth))
            self._here_from[symbol] = None
            for feed in self._feeds.values():
                if symbol in feed.starts:
                    feed.starts[symbol] = None

    def release(self, symbols: Iterable[str]) -> None:
        """Forget `symbols`: someone else looks after them."""
        for symbol in symbols:
            self._books.pop(symbol, None)
            self._asked.pop(symbol, None)
            self._changed.pop(symbol, None)
            self._rebuilds.pop(symbol, None)
            self._here_from.pop(symbol, None)

    def renew_forming(self) -> None:
        """Have `forming` give the forming candles of all symbols anew: someone else may have published older ones."""
        for symbol, book in self._books.items():
            book.renew_forming()
            self._changed.setdefault(symbol, book.clock)

    # --- messages ----------------------------------------------------------------------------------------------------

    def reconnected(self) -> None:
        """The broker was away: what came in between is not known, and what was published last may be lost (`recent`).

        That it has kept our session proves nothing: one that was killed comes back as it was some seconds before.
        """
        for feed in self._feeds.values():
            feed.starts = dict.fromkeys(feed.starts)
            # How far it has come meanwhile is not known either.
            feed.watermark = feed.at = float("-inf")
        self._here_from = dict.fromkeys(self._here_from)
        self._asked.clear()
        self.renew_forming()

    def recent(self) -> list[Candle]:
        """The closed candles that were published in the last PUBLISHED_AGAIN seconds, on each symbol's clock."""
        return [candle for book in self._books.values() for candle in book.again(book.clock - PUBLISHED_AGAIN)]

    def knows(self, feed: str) -> bool:
        """Whether `feed` has said that it is there."""
        return feed in self._feeds

    def speaks(self, feed: str) -> bool:
        """Whether `feed` has told of the time since it began, or since the broker was away."""
        return feed in self._feeds and self._feeds[feed].spoken

    def forget(self, feed: str) -> None:
        """The retained state of `feed` was taken away: it was never there, unless it has said something since."""
        known = self._feeds.get(feed)
        if known is not None and not known.spoken:
            del self._feeds[feed]

    def feed_state(self, state: FeedState, *, retained: bool) -> None:
        """State of a feed. A `retained` one is old news: what its ticks were since then has passed us by."""
        feed = self._feeds.setdefault(state.feed, _Feed())
        self._make_room(feed, len(state.symbols))
        renewed, was_live = state.since != feed.since, feed.live
        feed.live = state.state is FeedCondition.LIVE
        feed.since = state.since
        if not feed.live:
            return
        known = feed.starts
        if renewed:
            # What was lost of a connection that goes on is not given back by a later beginning of what it claims.
            known = {symbol: None for symbol, start in known.items() if was_live and start is None}
        feed.starts = {
            symbol: known[symbol] if symbol in known else self._start(symbol, feed, retained=retained)
            for symbol in state.symbols
        }
        if renewed:
            feed.watermark = float("-inf")
            if not was_live:
                feed.at = float("-inf")
            for symbol in state.symbols:
                # Whoever was asked meanwhile may not have been there.
                self._asked.pop(symbol, None)

    def _start(self, symbol: str, feed: _Feed, *, retained: bool) -> float | None:
        """From when on we have everything of a symbol that a feed lists newly; None where a watermark must tell.

        A feed that began after the first watermark that we heard published all that it claims when we were there.
        """
        here_from = self._here_from.get(symbol)
        if retained or here_from is None or feed.since < max(here_from, feed.lost_until):
            return None
        return feed.since

    def watermark(self, mark: Watermark) -> list[Output]:
        """Everything of a feed has been published up to the mark: close what ended before it.

        ImplausibleError if it is far from all that is known, and the feed has not gone on from there.
        """
        feed = self._feeds.get(mark.feed)
        if feed is None or not feed.live:
            return []
        if 0 < feed.at - mark.at <= REPEATED and mark.watermark <= feed.watermark:
            return []  # an older one that comes a second time: it tells nothing new, and of no loss
        if not feed.goes_on(mark, self._newest()):
            raise ImplausibleError(
                f"expected a watermark that goes on from {_told(feed.watermark)}, got {_told(mark.watermark)}"
            )
        silent = mark.at - (feed.at if feed.spoken else feed.since)
        # What came of a feed before it was believed may have been refused.
        if feed.confirmations or silent > MESSAGES_LOST or (feed.spoken and silent < 0):
            feed.starts = dict.fromkeys(feed.starts)
            feed.watermark = float("-inf")
            feed.lost_until = mark.at
        feed.at = mark.at
        for symbol in [symbol for symbol, instant in self._here_from.items() if instant is None]:
            self._here_from[symbol] = mark.at
        out: list[Output] = []
        seeds = []
        minute = Timeframe.M1.floor(mark.watermark)
        passed = minute > feed.watermark
        feed.watermark = mark.watermark
        for symbol, known_start in feed.starts.items():
            book = self._books.get(symbol)
            if book is None or mark.watermark > _plausible_until(feed, book):
                continue
            start = known_start
            if start is None:
                # What the gateway receives after this mark will reach us; a snapshot taken from now on tells of all
                # before.
                start = feed.starts[symbol] = max(feed.since, mark.watermark + GRACE)
            elif not passed and book.initialized:
                continue
            closed = book.cover(start, mark.watermark, mark.at)
            self._changed[symbol] = mark.at
            if self._wants_seed(symbol, book, mark.watermark):
                seeds.append(symbol)
            out += self._with_requests(symbol, book, closed, mark.at)
        if seeds:
            out.append(SeedRequest(tuple(seeds)))
        return out

    def tick(self, tick: Candle) -> list[Output]:
        """A raw 1m tick. ImplausibleError if its minute is one that the gateway cannot have seen."""
        if tick.timeframe is not Timeframe.M1:
            raise ImplausibleError(f"expected a tick of 1m, got {tick.timeframe.value}")
        if tick.open_time > tick.at + Timeframe.M1.seconds:
            raise ImplausibleError(f"expected a minute that had begun at {tick.at}, got {tick.open_time}")
        book = self._books.get(tick.symbol)
        if book is None:
            return []
        self._check_time(book, tick.open_time, tick.at)
        self._changed[tick.symbol] = tick.at
        return list(book.tick(tick))

    def history(self, history: History) -> list[Output]:
        """A batch of history. ImplausibleError if it claims a time that cannot be known."""
        book = self._books.get(history.symbol)
        if book is None:
            return []
        latest = max((candle.open_time for candle in history.candles), default=history.covers.end)
        self._check_time(book, max(latest, history.covers.end), history.at if history.candles else None)
        windows = (history.covers.end - history.covers.start) / history.timeframe.seconds
        if history.source in ASKED_FOR and windows > MOST_WINDOWS:
            raise ImplausibleError(f"expected an answer over at most {MOST_WINDOWS} windows, got {windows:.0f}")
        self._changed[history.symbol] = history.at
        closed = [*self._rebuild(history, book), *book.history(history)]
        return self._with_requests(history.symbol, book, closed, history.at)

    def _rebuild(self, history: History, book: Book) -> list[Candle]:
        """The candles of an answer that lie before what the book looks after."""
        horizons = book.horizons
        if not horizons or history.source not in ASKED_FOR:
            return []
        if history.covers.start >= horizons[history.timeframe]:
            return []
        rebuild = self._rebuilds.pop(history.symbol, None) or Rebuild(history.symbol)
        self._rebuilds[history.symbol] = rebuild
        if len(self._rebuilds) > _REBUILDS:
            del self._rebuilds[next(iter(self._rebuilds))]
        return rebuild.history(history, min(history.covers.end, final_until(history)), horizons)

    def resume(self, candle: Candle) -> None:
        """A candle that was retained on the bus: an earlier run published it last."""
        book = self._books.get(candle.symbol)
        if book:
            book.resume(candle)

    def forming(self) -> list[Candle]:
        """The forming candles that changed since they were last asked for."""
        changed, self._changed = self._changed, {}
        return [
            candle for symbol, at in changed.items() if (book := self._books.get(symbol)) for candle in book.forming(at)
        ]

    def gaps(self) -> dict[str, list[Gap]]:
        """What is missing or was given up on, by symbol."""
        found = {}
        for symbol, book in self._books.items():
            gaps = [Gap(symbol, timeframe, span, lost=False) for timeframe, span in book.missing()]
            gaps += [Gap(symbol, timeframe, span, lost=True) for timeframe, span in book.lost]
            if gaps:
                found[symbol] = gaps
        return found

    # --- what can be ---

    def _newest(self) -> float:
        """Up to when (unix seconds) the feeds have told of the time; -inf if none has."""
        return max(
            (feed.watermark for feed in self._feeds.values() if feed.live and feed.spoken), default=float("-inf")
        )

    def _check_time(self, book: Book, latest: float, at: float | None) -> None:
        """ImplausibleError for a message of a time (unix seconds) that cannot have come yet, by what the feeds tell."""
        newest = self._newest()
        until = max(newest + SUDDEN, book.clock) if newest != float("-inf") else book.clock + MAX_JUMP
        if until != float("-inf") and latest > until:
            raise ImplausibleError(f"expected nothing of {book.symbol} after {_told(until)}, got {_told(latest)}")
        # The gateway's clock may be far from the market's time where an archive is played.
        received = max((feed.at for feed in self._feeds.values() if feed.live and feed.spoken), default=float("inf"))
        if at is not None and at > max(received, newest) + SUDDEN:
            raise ImplausibleError(f"expected a receipt up to about {_told(received)}, got {_told(at)}")

    def _make_room(self, feed: _Feed, claims: int) -> None:
        """Forget feeds, those first that have said the least and longest ago, where `feed` with its claims is one too
        many.
        """
        total = sum(len(other.starts) for other in self._feeds.values() if other is not feed) + claims
        if len(self._feeds) <= MAX_FEEDS and total <= MAX_CLAIMS:
            return
        for name, other in sorted(self._feeds.items(), key=lambda item: (item[1].spoken, item[1].live)):
            if len(self._feeds) <= MAX_FEEDS and total <= MAX_CLAIMS:
                return
            if other is not feed:
                total -= len(other.starts)
                del self._feeds[name]

    # --- asking ------------------------------------------------------------------------------------------------------

    def _wants_seed(self, symbol: str, book: Book, clock: float) -> bool:
        if book.seeded:
            return False
        asked = self._asked.setdefault(symbol, _Asked())
        if clock < asked.again:
            return False
        asked.again = clock + _SEED_AGAIN
        return True

    def _with_requests(self, symbol: str, book: Book, closed: list[Candle], at: float) -> list[Output]:
        """`closed`, and what to ask for because something is missing.

        Then the forming candles go first, which tell that something is: were we killed right after the closed ones,
        nobody would know from those that anything before them is owed.
        """
        requests = self._ask(symbol, book, at)
        return [*(book.forming(at) if requests else ()), *closed, *requests]

    def _ask(self, symbol: str, book: Book, at: float) -> list[Output]:
        """Ask for what is missing: at once when something new is, else again and again with growing pauses.

        Give up on what is too old, and was asked for in vain.
        """
        missing = book.missing()
        if not missing:
            if book.initialized:
                self._asked.pop(symbol, None)
            return []
        out: list[Output] = []
        asked = self._asked.setdefault(symbol, _Asked())
        if self._give_up_after is not None and book.clock >= asked.again:
            for timeframe, span in missing:
                was_asked_for = any(_inside((timeframe, span), whole) for whole in asked.spans)
                if was_asked_for and span.end < book.clock - self._give_up_after:
                    out += book.give_up(timeframe, span, at)
        if not all(any(_inside(gap, whole) for whole in asked.spans) for gap in missing):
            asked.wait = _ASK_AGAIN[0]
        elif book.clock < asked.again:
            return out
        asked.again = book.clock + asked.wait
        asked.wait = min(asked.wait * 2, _ASK_AGAIN[1])
        asked.spans = missing
        for timeframe, span in missing:
            start = span.start - LATE if timeframe is Timeframe.M1 else span.start
            out.append(HistoryRequest((symbol,), timeframe, Range(start, span.end)))
        return out


def _told(instant: float) -> str:
    return rfc3339(instant) if isfinite(instant) else "the start"


def _inside(gap: tuple[Timeframe, Range], whole: tuple[Timeframe, Range]) -> bool:
    """Whether `gap` is a part of `whole`, as what is left of it while the answer comes in pieces."""
    return gap[0] is whole[0] and whole[1].start <= gap[1].start and gap[1].end <= whole[1].end


def _plausible_until(feed: _Feed, book: Book) -> float:
    """Up to when (unix seconds) a watermark can be followed; anything for a book that knows no time yet."""
    return float("inf") if book.clock == float("-inf") else max(book.clock, feed.since) + MAX_JUMP
