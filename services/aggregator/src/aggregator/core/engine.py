"""The engine: messages in, candles and requests out."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType

from msgspec.structs import replace

from aggregator.core.feeds import MAX_JUMP, FeedCoverage, Feeds, ImplausibleError
from aggregator.core.gap_requests import NO_GAPS, REQUESTED, GapRequests
from aggregator.core.memory import Memory
from aggregator.core.rebuild import Rebuild
from aggregator.core.series import CandleSeries, Depth, final_until
from ingress_common.gaps import Gap
from ingress_common.model import (
    GRACE,
    Candle,
    FeedState,
    History,
    HistoryRequest,
    MinuteTrades,
    Range,
    SeedRequest,
    Watermark,
)
from ingress_common.timeframes import TIMEFRAMES, Timeframe

Output = Candle | SeedRequest | HistoryRequest
"""What the engine publishes: candles, and requests to the gateway."""

RECENT = 120.0
"""Seconds of closed candles to republish after a reconnect: a killed broker restarts from the state that it saved some
seconds before.
"""

MAX_WINDOWS = 50_000
"""Maximum number of windows in a response; nobody requests more."""

ENDED_WITHIN = 15.0
"""Seconds: a symbol that was covered until this long before its end lacks nothing."""

_REBUILDS = 16
_STATED_WITHIN = 3600.0
_open_time = attrgetter("open_time")
_NEVER = float("-inf")
_M1 = Timeframe.M1
_MINUTE = _M1.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class UncoveredGap(Gap):
    """Time of a series that nothing received covers, not in whole windows; `lost` if the engine gave up on it."""

    lost: bool


class Engine:
    """The candles of its symbols, as a function of the messages in the order of their arrival.

    Every method returns what to publish, in order. `give_up_after`: seconds on a symbol's clock after which the engine
    gives up on a gap; None for never.
    """

    def __init__(self, depth: Depth | None = None, give_up_after: float | None = 86400.0) -> None:
        self._depth = depth or Depth()
        self._memory = Memory()
        self._series: dict[str, CandleSeries] = {}
        self._feeds = Feeds()
        self._requests = GapRequests(give_up_after)
        self._news: dict[str, float] = {}  # symbols whose forming 1m candle may have changed, and the `at` of that
        self._changed: dict[str, float] = {}  # those whose forming candles above it may have changed as well
        self._left: dict[str, Range] = {}  # symbols that a live feed carries no more, and what it covered last
        self._rebuilds: dict[str, Rebuild] = {}  # the most recent one last
        self.lost_updates = 0
        """Minutes of symbols with updates lost between the gateway and the engine."""

    # --- which symbols -----------------------------------------------------------------------------------------------

    @property
    def carried(self) -> frozenset[str]:
        """The symbols that live feeds carry, at most as many as Kraken can have (`MAX_SYMBOLS`)."""
        return self._feeds.carried(lambda symbol: symbol in self._series and self._series[symbol].seeded)

    @property
    def series(self) -> Mapping[str, CandleSeries]:
        """The candle series, by symbol."""
        return self._series

    def gain(self, symbols: Iterable[str]) -> None:
        """Maintain `symbols` from now on; their candle updates and history must be subscribed to already."""
        gained = tuple(symbols)
        for symbol in gained:
            self._series.setdefault(symbol, CandleSeries(symbol, self._depth, self._memory))
        self._memory.share(len(self._series))
        self._feeds.gain(gained)

    def release(self, symbols: Iterable[str]) -> None:
        """Forget `symbols`: another aggregator maintains them."""
        released = tuple(symbols)
        for symbol in released:
            self._series.pop(symbol, None)
            self._news.pop(symbol, None)
            self._changed.pop(symbol, None)
            self._rebuilds.pop(symbol, None)
            self._left.pop(symbol, None)
            self._requests.forget(symbol)
        self._memory.share(len(self._series))
        self._feeds.release(released)

    def end(self, symbol: str, now: float) -> list[Candle]:
        """Forget `symbol`, which has ended. Returns its closed candles up to `now` (unix seconds), then the
        forming ones.

        If a live feed covered it until just before, nothing is missing. Otherwise it is as with `leave`.
        """
        series, covered = self._series[symbol], self._left.get(symbol)
        if covered is None or now - covered.end > ENDED_WITHIN or not series.initialized:
            return self.leave(symbol)
        at = self._last_news(series)
        last = series.cover(covered.start, now, at)
        return [*last, *self._forget(series, at)]

    def leave(self, symbol: str) -> list[Candle]:
        """Forget `symbol`, which nobody follows any more. Returns its closed candles, then the forming ones that
        traded, `complete` false: what happens in the rest of their windows is not known.
        """
        series = self._series[symbol]
        last = self._forget(series, self._last_news(series))
        return [
            candle if candle.closed else replace(candle, complete=False)
            for candle in last
            if candle.closed or candle.trades
        ]

    def _last_news(self, series: CandleSeries) -> float:
        return self._news.get(series.symbol, self._changed.get(series.symbol, series.clock))

    def _forget(self, series: CandleSeries, at: float) -> list[Candle]:
        """Forget a series. Returns the candles over its gaps, which it gives up on, and all forming candles."""
        last: list[Candle] = []
        for timeframe, span in series.gaps():
            last += series.give_up(timeframe, span, at)
        series.refresh_forming()
        last += series.forming(at)
        self.release((series.symbol,))
        return last

    @property
    def newest(self) -> float:
        """The newest watermark of the live feeds (unix seconds); minus infinity without one."""
        return self._feeds.newest

    # --- feeds -------------------------------------------------------------------------------------------------------

    def knows(self, feed: str) -> bool:
        """Whether a state of `feed` was received."""
        return self._feeds.knows(feed)

    def reports(self, feed: str) -> bool:
        """Whether a watermark of `feed` was followed since it began, or since the last reconnect."""
        return self._feeds.reports(feed)

    def forget(self, feed: str) -> None:
        """The feed's retained state was deleted. Forget the feed unless it has sent data since."""
        self._feeds.forget(feed)

    def feed_state(self, state: FeedState, *, retained: bool) -> bool:
        """Process a feed's state; returns whether it differs from the last one, which gateways repeat. A `retained` one
        is old: later updates have not arrived here.
        """
        if self._feeds.repeats(state):
            return False
        self._left |= {symbol: span for symbol, span in self._feeds.left(state).items() if symbol in self._series}
        if self._feeds.state(state, retained=retained):
            for symbol in state.symbols:
                self._forget_requests(symbol)
        return True

    def reconnected(self) -> None:
        """Discard the coverage: messages may have been lost while the broker was disconnected. `recent` gives the
        candles to republish.

        A session that the broker kept proves nothing: a killed broker restarts from the state of some seconds before.
        """
        self._feeds.reconnected()
        for symbol in self._series:
            self._forget_requests(symbol)
        self.refresh_forming()

    def _forget_requests(self, symbol: str) -> None:
        """Re-request the gaps of a symbol: no gateway may have received the request."""
        self._requests.forget(symbol)
        if series := self._series.get(symbol):
            series.check_gaps_at = _NEVER

    # --- messages ----------------------------------------------------------------------------------------------------

    def watermark(self, mark: Watermark, published: MinuteTrades = MappingProxyType({})) -> list[Output]:
        """Process a watermark, up to which a feed has published everything: close the windows that ended before it.

        `published`: the trades that it has published of the minutes that end with the mark, and of the symbols that
        were updated since the last one. A minute that has ended is a gap if fewer have arrived.

        ImplausibleError if the mark is far from everything known and the feed has not continued from there.
        """
        followed = self._feeds.follow(mark)
        if followed is None:
            return []
        feed, minute_ended = followed
        if published:
            self._compare(feed, published, mark)
        watched = feed.watched
        if not minute_ended and not watched:
            return []
        out: list[Output] = []
        seeds = []
        watermark, at = mark.watermark, mark.at
        starts, all_series, news = feed.starts, self._series, self._news
        far_before = watermark - MAX_JUMP
        for symbol, covered_from in starts.items() if minute_ended else [(s, starts[s]) for s in watched]:
            series = all_series.get(symbol)
            if series is None:
                watched.discard(symbol)
                continue
            if series.clock < far_before and series.clock != _NEVER and feed.since < far_before:
                continue
            news[symbol] = at
            if covered_from == series.in_order_from:
                closed = series.close_in_order(watermark, at)
            else:
                start = covered_from
                if start is None:
                    # What the gateway receives after this mark will arrive; a snapshot taken from now on holds all from
                    # before.
                    start = starts[symbol] = max(feed.since, watermark + GRACE)
                closed = series.cover(start, watermark, at)
            if series.clock < series.check_gaps_at:
                out += closed
            elif series.initialized:
                self._add_with_requests(out, series, closed, at)
            elif self._requests.wants_seed(series, watermark):
                seeds.append(symbol)
            if series.check_gaps_at != NO_GAPS:
                watched.add(symbol)
            elif watched:
                watched.discard(symbol)
        if seeds:
            out.append(SeedRequest(tuple(seeds)))
        return out

    def _compare(self, feed: FeedCoverage, published: MinuteTrades, mark: Watermark) -> None:
        """Find the symbols of which not all updates have arrived; their coverage begins after the minutes of those."""
        arrived = {}
        for minute, trades in published.items():
            ended = minute + _MINUTE <= mark.watermark
            if minute % _MINUTE or not mark.watermark - _STATED_WITHIN <= minute <= mark.watermark + _MINUTE:
                continue
            for symbol in trades.keys() & feed.starts.keys() & self._series.keys():
                start, series = feed.starts[symbol], self._series[symbol]
                if start is None or minute + _MINUTE <= start:
                    continue
                lacks = series.lacks(minute, trades[symbol])
                if not ended:
                    arrived[symbol] = not lacks
                elif lacks:
                    series.uncover(minute)
                    feed.starts[symbol] = float(minute + _MINUTE)
                    # Without its seed, what came before may be all that a symbol lacks.
                    self.lost_updates += series.initialized
        if arrived:
            feed.compare_updates(arrived)

    @property
    def losing(self) -> frozenset[str]:
        """Symbols whose updates are repeatedly lost between gateway and aggregator."""
        return self._feeds.losing

    def tick(self, tick: Candle) -> list[Candle]:
        """Process a raw 1m update. ImplausibleError if the gateway cannot have seen its minute."""
        if tick.timeframe is not _M1:
            raise ImplausibleError(f"expected a tick of 1m, got {tick.timeframe.value}")
        symbol, open_time, at = tick.symbol, tick.open_time, tick.at
        series = self._series.get(symbol)
        if series is None:
            return []
        feeds = self._feeds
        if open_time > feeds.reached or at > feeds.plausible_receipt:
            if open_time > at + _MINUTE:
                raise ImplausibleError(f"expected a minute that had begun at {at}, got {open_time}")
            feeds.check(symbol, series.clock, open_time, at)
        self._news[symbol] = at
        return series.update(tick)

    def history(self, history: History) -> list[Output]:
        """Process a history batch. ImplausibleError if it covers a time that nobody can know yet."""
        series = self._series.get(history.symbol)
        if series is None:
            return []
        covers, at = history.covers, history.at
        latest = max(map(_open_time, history.candles), default=covers.end)
        self._feeds.check(series.symbol, series.clock, max(latest, covers.end), at if history.candles else None)
        # A forming candle is newer than a response about the past.
        self._news[history.symbol] = max(at, self._last_news(series))
        requested = history.source in REQUESTED
        closed = self._process_response(history, series) if requested else series.history(history)
        out: list[Output] = []
        self._add_with_requests(out, series, closed, at)
        return out

    def _process_response(self, history: History, series: CandleSeries) -> list[Candle]:
        """The candles that follow from a response, also for windows that the series has forgotten.

        Candles that somebody else requested are republished even if they have not changed: the store may lack them.
        """
        covers, timeframe = history.covers, history.timeframe
        windows = (covers.end - covers.start) / timeframe.seconds
        if windows > MAX_WINDOWS:
            raise ImplausibleError(f"expected a response of at most {MAX_WINDOWS} windows, got {windows:.0f}")
        others = self._requests.take_response(history)
        horizons = series.horizons
        if not horizons:
            return series.history(history)
        rebuilt: list[Candle] = []
        if covers.start < horizons[timeframe]:
            rebuild = self._rebuilds.pop(history.symbol, None) or Rebuild(history.symbol)
            self._rebuilds[history.symbol] = rebuild
            if len(self._rebuilds) > _REBUILDS:
                del self._rebuilds[next(iter(self._rebuilds))]
            rebuilt = rebuild.history(history, min(covers.end, final_until(history)), horizons)
        changed = series.history(history)
        done = {candle.open_time for candle in changed if candle.timeframe is timeframe}
        horizon = horizons[timeframe]
        unchanged = [
            candle
            for candle in series.published(timeframe)
            if candle.open_time not in done
            and any(max(start, horizon) <= candle.open_time < end for start, end in others)
        ]
        return [*rebuilt, *changed, *unchanged]

    def resume(self, candle: Candle) -> None:
        """Resume from a retained candle: the last one that an earlier run published."""
        series = self._series.get(candle.symbol)
        if series:
            series.resume(candle)

    def _add_with_requests(self, out: list[Output], series: CandleSeries, closed: list[Candle], at: float) -> None:
        """Add `closed` to `out`, and the requests for what is missing.

        With a new gap the forming candles go first, since they show it: if this process were killed right after the
        closed candles, those alone would not show that earlier candles are due.
        """
        may_be_new = series.check_gaps_at == _NEVER
        requests = self._requests.request(series, at)
        if requests and may_be_new:
            out += series.forming(max(at, self._last_news(series)))
        out += closed
        out += requests

    # --- what is republished, what is forming, what is missing -------------------------------------------------------

    def republish(self, symbols: Iterable[str], start: float, end: float) -> list[Candle]:
        """The remembered closed candles of `symbols` with `at` in [start, end] (unix seconds), as they were published:
        symbol by symbol, lower timeframes first, oldest first.

        Selecting by `at` includes corrections of older windows.
        """
        return [
            candle
            for symbol in symbols
            if (series := self._series.get(symbol))
            for timeframe in TIMEFRAMES
            for candle in series.published(timeframe)
            if start <= candle.at <= end
        ]

    def recent(self) -> list[Candle]:
        """The closed candles that were published in the last RECENT seconds, on each symbol's clock."""
        return [
            candle
            for symbol, series in self._series.items()
            for candle in self.republish((symbol,), series.clock - RECENT, float("inf"))
        ]

    def refresh_forming(self) -> None:
        """Return all forming candles next time, changed or not: another aggregator may have published older ones."""
        for symbol, series in self._series.items():
            series.refresh_forming()
            self._news.setdefault(symbol, series.clock)

    @property
    def changed(self) -> Collection[str]:
        """The symbols whose forming candles may have changed."""
        return self._changed.keys()

    def forming_minutes(self) -> list[Candle]:
        """The forming 1m candles that changed since the last call."""
        news, self._news = self._news, {}
        self._changed |= news
        return [
            candle
            for symbol, at in news.items()
            if (series := self._series.get(symbol))
            for candle in series.forming_minute(at)
        ]

    def forming(self, symbols: Iterable[str]) -> list[Candle]:
        """The forming candles of `symbols`, all of which are `changed`, that changed since the last call."""
        return [
            candle
            for symbol in symbols
            if (series := self._series.get(symbol))
            for candle in series.forming(self._changed.pop(symbol))
        ]

    def gaps(self) -> dict[str, list[UncoveredGap]]:
        """The gaps, lost ones included, by symbol."""
        found = {}
        for symbol, series in self._series.items():
            gaps = [UncoveredGap(symbol, timeframe, span, lost=False) for timeframe, span in series.gaps()]
            gaps += [UncoveredGap(symbol, timeframe, span, lost=True) for timeframe, span in series.lost]
            if gaps:
                found[symbol] = gaps
        return found
