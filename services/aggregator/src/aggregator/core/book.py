"""The book of one symbol: what is known of its candles, which of them are closed, and what is missing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush

from aggregator.core.bars import Bar, candle_of, roll_up
from aggregator.core.coverage import Intervals
from ingress_common.model import GRACE, Candle, History, Range, Source
from ingress_common.timeframes import TIMEFRAMES, Timeframe

M1 = Timeframe.M1

KEPT: Mapping[Timeframe, int] = {
    Timeframe.M1: 720,
    Timeframe.M5: 288,
    Timeframe.M15: 192,
    Timeframe.H1: 168,
    Timeframe.H4: 84,
    Timeframe.D1: 28,
    Timeframe.W1: 8,
}
"""Closed windows that a book remembers, so that a late trade or a repair can correct them and all above them."""

ASKED_FOR = frozenset({Source.REST, Source.TRADES})
"""Sources of history that comes only when somebody has asked for it."""

_PRICE_WITHIN = (
    KEPT[M1] * M1.seconds
)  # seconds before a window in which a trade is looked for that tells its flat price

_PRICES_KEPT = 8


@dataclass(frozen=True, slots=True)
class Depth:
    """How far back, in windows of each timeframe, a book publishes when it starts.

    `fresh`: of what its seed tells, which may be news even where an earlier run published the same windows; None for
    all of it. `resumed`: of what is owed since an earlier run published last, as the bus still knows; 720 is what one
    REST answer reaches.
    """

    fresh: int | None = 24
    resumed: int = 720


@dataclass(slots=True)
class _Level:
    """One timeframe of a book. Windows are named by their open time.

    `bars`: what traded, for windows that are known (at 1m also for the current one). `known`: the time that is settled,
    once it is over. `lost`: the part of it that was given up on. `direct`: windows whose bar is Kraken's own and not
    rolled up; `overtaken`: those of them of which a part was corrected later. `held`: windows that are over but wait
    for data. `horizon`: the first window that is to be published; `due`: the next window to end.
    """

    timeframe: Timeframe
    bars: dict[int, Bar] = field(default_factory=dict)
    known: Intervals = field(default_factory=Intervals)
    lost: Intervals = field(default_factory=Intervals)
    direct: set[int] = field(default_factory=set)
    overtaken: set[int] = field(default_factory=set)
    published: dict[int, Candle] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    forming: Candle | None = None
    horizon: int = 0
    due: int = 0
    seeded: bool = False

    def settled(self, window: int) -> bool:
        return self.known.covers(window, window + self.timeframe.seconds)


class Book:
    """All candles of one symbol, from whatever arrives in whatever order.

    Every method that takes something in returns the closed candles to publish, lower timeframes first; `forming` gives
    the forming ones when they are wanted. Nothing is published before history of all seven timeframes has arrived.
    `stale` counts what came for windows that are long forgotten.
    """

    def __init__(self, symbol: str, depth: Depth) -> None:
        self.symbol = symbol
        self.clock = float("-inf")
        self.stale = 0
        self.initialized = False
        self._depth = depth
        self._levels = {timeframe: _Level(timeframe) for timeframe in TIMEFRAMES}
        self._resumed: dict[Timeframe, int] = {}
        self._gap_since: int | None = None  # an earlier run had a gap somewhere after this time
        self._prices: dict[float, Bar] = {}  # bars that end with the price at a moment, told last

    # --- what arrives ------------------------------------------------------------------------------------------------

    def resume(self, candle: Candle) -> None:
        """Take note of a candle that an earlier run published last: what came after it is owed.

        A forming one that was not complete tells of a gap inside its window, which is then owed as well. Only of use
        before the seed is in.
        """
        if self.initialized:
            return
        level = self._levels[candle.timeframe]
        owed = candle.close_time if candle.closed else candle.open_time
        if candle.closed:
            level.published[candle.open_time] = candle
        elif not candle.complete:
            self._gap_since = min(candle.open_time, self._gap_since or candle.open_time)
        if candle.timeframe is M1 and (candle.closed or candle.infilled):
            self._note_price(owed, Bar.of(candle))
        self._resumed[candle.timeframe] = max(owed, self._resumed.get(candle.timeframe, owed))

    def tick(self, tick: Candle) -> list[Candle]:
        """A raw 1m tick: the whole state of its minute so far."""
        if not self._take_tick(tick):
            return []
        if not self.initialized:
            return self._start(tick.at)
        window = tick.open_time
        level = self._levels[M1]
        return self._publish({M1: {window}}, tick.at) if window < level.due else []

    def cover(self, start: float, end: float, at: float) -> list[Candle]:
        """The feed was alive from `start` to `end` (unix seconds) and all of it has arrived.

        The clock moves to `end`. `at` as in a candle.
        """
        level = self._levels[M1]
        level.known.add(start, end)
        return self._advance(end, at, {window for window in level.held if window + M1.seconds > start})

    def history(self, history: History) -> list[Candle]:
        """A batch of Kraken's history: final for what had ended when it was taken, a tick for the interval still open
        then.

        A row of 0 trades tells the price at its open; one that opens before the batch's range tells no more than that.
        """
        level = self._levels[history.timeframe]
        at = history.at
        final = final_until(history)
        settled_to = min(history.covers.end, final)
        touched = set()
        looked_after_from = self.horizons.get(history.timeframe, 0)
        for candle in history.candles:
            if candle.trades == 0:
                self._note_price(max(history.covers.start, candle.open_time), Bar.of(candle))
            if candle.trades == 0 and candle.open_time < history.covers.start:
                continue
            if candle.close_time <= final:
                if self._take_final(level, candle):
                    touched.add(candle.open_time)
            elif level.timeframe is M1:
                self._take_tick(candle)
        start = max(history.covers.start, self._remembered_from(level))
        earlier = [candle for candle in history.candles if candle.close_time <= start]
        if earlier and start < settled_to:
            # All that a part of the batch from before what is remembered can still tell.
            self._note_price(start, Bar.of(max(earlier, key=lambda candle: candle.open_time)))
        level.known.add(start, settled_to)
        touched.update(window for window in level.held if window < history.covers.end)
        for first, last in level.lost:
            if first < settled_to and last > start:
                windows = range(level.timeframe.floor(first), level.timeframe.ceil(last), level.timeframe.seconds)
                touched.update(window for window in windows if window >= start)
        level.lost.remove(start, settled_to)
        untold = self._untold(level, start, settled_to)
        touched |= untold
        if level.timeframe is not M1:
            # Kraken has told them itself now.
            level.direct |= untold
            level.overtaken -= untold
        level.seeded = True
        if not self.initialized:
            self.clock = max(self.clock, settled_to) if level.timeframe is M1 else self.clock
            return self._start(at)
        changed = (
            self._advance(settled_to, at, touched)
            if level.timeframe is M1
            else self._publish({level.timeframe: touched}, at)
        )
        return changed + self._asked_for(level, history, looked_after_from, changed)

    def _untold(self, level: _Level, start: float, end: float) -> set[int]:
        """The windows inside a batch that are over and were told without all of their minutes, or not at all: for want
        of minutes, or of the price that the batch may begin with.
        """
        length = level.timeframe.seconds
        first = level.timeframe.ceil(max(start, level.horizon))
        windows = range(first, min(level.timeframe.floor(end), level.due), length)
        return {window for window in windows if window not in level.published or not level.published[window].complete}

    def _asked_for(self, level: _Level, history: History, first: int, changed: list[Candle]) -> list[Candle]:
        """What was published of a REST answer's time, from the window `first` on, and is as it was: somebody asked, so
        somewhere it is missing. What is older is rebuilt from the answer (`rebuild`).
        """
        if history.source not in ASKED_FOR:
            return []
        start = max(history.covers.start, first)
        done = {candle.open_time for candle in changed if candle.timeframe is level.timeframe}
        return [
            candle
            for window, candle in level.published.items()
            if start <= window < history.covers.end and window not in done
        ]

    def give_up(self, timeframe: Timeframe, span: Range, at: float) -> list[Candle]:
        """Stop waiting for `span`: candles over it close with what is known, `complete` false.

        A later history batch still mends them.
        """
        level = self._levels[timeframe]
        for start, end in level.known.holes(span.start, span.end):
            level.lost.add(start, end)
        level.known.add(span.start, span.end)
        return self._publish({timeframe: set(level.held)}, at)

    def again(self, since: float) -> list[Candle]:
        """The closed candles that were published since `since` (unix seconds, Kraken's time), lower timeframes first.

        For whoever may not have got them.
        """
        return [candle for level in self._levels.values() for candle in level.published.values() if candle.at >= since]

    def renew_forming(self) -> None:
        """Have `forming` give all forming candles anew, whether they have changed or not."""
        for level in self._levels.values():
            level.forming = None

    @property
    def horizons(self) -> Mapping[Timeframe, int]:
        """The first window of each timeframe (unix seconds) that is looked after here; empty before the start."""
        if not self.initialized:
            return {}
        return {
            timeframe: max(level.horizon, timeframe.ceil(self._remembered_from(level)))
            for timeframe, level in self._levels.items()
        }

    # --- what is missing ---------------------------------------------------------------------------------------------

    def missing(self) -> list[tuple[Timeframe, Range]]:
        """What must be known to close what is over and to build the forming candles, and is not: whole windows, merged,
        lowest timeframe first.

        From the first published minute on that is minutes; before it, windows of the timeframe that needs them.
        """
        if not self.initialized:
            return []
        wanted = {timeframe: Intervals() for timeframe in TIMEFRAMES}
        minutes = self._levels[M1]
        for start, end in minutes.known.holes(minutes.horizon, self.clock):
            wanted[M1].add(M1.floor(start), M1.ceil(end))
        for window in minutes.held:
            if minutes.settled(window) and (known_from := minutes.known.start_of(window)) is not None:
                wanted[M1].add(M1.floor(window - _PRICE_WITHIN), M1.ceil(known_from))
        for timeframe in TIMEFRAMES[1:]:
            level, lower = self._levels[timeframe], self._lower(timeframe)
            for window in level.held:
                if window < minutes.horizon:
                    wanted[timeframe].add(window, window + timeframe.seconds)
            for child in range(timeframe.floor(self.clock), lower.timeframe.floor(self.clock), lower.timeframe.seconds):
                if child < minutes.horizon and not self._settled(lower, child):
                    wanted[lower.timeframe].add(child, child + lower.timeframe.seconds)
        return [(timeframe, Range(start, end)) for timeframe, spans in wanted.items() for start, end in spans]

    @property
    def seeded(self) -> bool:
        """Whether history of all seven timeframes has arrived."""
        return all(level.seeded for level in self._levels.values())

    @property
    def lost(self) -> list[tuple[Timeframe, Range]]:
        """What was given up on."""
        return [(level.timeframe, Range(*span)) for level in self._levels.values() for span in level.lost]

    @property
    def held(self) -> int:
        """How many windows are over but wait for data."""
        return sum(len(level.held) for level in self._levels.values())

    # --- taking in ---------------------------------------------------------------------------------------------------

    def _remembered_from(self, level: _Level) -> float:
        """From when on (unix seconds) a level takes anything in; what is older would find nothing to add to."""
        if not self.initialized:
            return float("-inf")
        return min(level.due - KEPT[level.timeframe] * level.timeframe.seconds, min(level.held, default=level.due))

    def _forgotten(self, level: _Level, window: int) -> bool:
        forgotten = window < self._remembered_from(level)
        self.stale += forgotten
        return forgotten

    def _take_tick(self, tick: Candle) -> bool:
        """Whether the minute's state changed: a state with fewer trades is older, whenever it arrives."""
        level = self._levels[M1]
        if tick.trades == 0 or self._forgotten(level, tick.open_time):
            return False
        known = level.bars.get(tick.open_time)
        bar = Bar.of(tick)
        if known and (bar.trades < known.trades or (known.same_market(bar) and known.vwap == bar.vwap)):
            return False
        level.bars[tick.open_time] = bar
        return True

    def _take_final(self, level: _Level, candle: Candle) -> bool:
        """Whether a row that Kraken will not change any more says something else than what is known."""
        if self._forgotten(level, candle.open_time):
            return False
        window = candle.open_time
        known = level.bars.get(window)
        if window < level.horizon:
            # What an earlier run told of it (`resume`) is not corrected here, and may be wrong.
            level.published.pop(window, None)
        if candle.trades == 0:
            return level.bars.pop(window, None) is not None
        bar = Bar.of(candle)
        if known and known.same_market(bar):
            return False
        level.bars[window] = bar
        if level.timeframe is not M1:
            level.direct.add(window)
            level.overtaken.discard(window)
        return True

    def _note_price(self, moment: float, bar: Bar) -> None:
        """`bar` ends with the price at `moment` (unix seconds)."""
        self._prices.pop(moment, None)
        self._prices[moment] = bar
        if len(self._prices) > _PRICES_KEPT:
            del self._prices[next(iter(self._prices))]

    # --- start and time ----------------------------------------------------------------------------------------------

    def _start(self, at: float) -> list[Candle]:
        """Begin to publish, once all timeframes have been seeded and there is a price."""
        minutes = self._levels[M1]
        if not self.seeded or not (minutes.bars or M1 in self._resumed):
            return []
        for level in self._levels.values():
            length = level.timeframe.seconds
            now = level.timeframe.floor(self.clock)
            traded = [*level.bars, *map(level.timeframe.floor, minutes.bars)]
            first = min(traded, default=now)
            if self._depth.fresh is not None:
                first = max(first, now - self._depth.fresh * length)
            owed = self._resumed.get(level.timeframe, first)
            if self._gap_since is not None:
                owed = min(owed, level.timeframe.floor(self._gap_since))
            level.horizon = level.due = min(first, max(owed, now - self._depth.resumed * length))
            # What is retained of times that are still to come is of another run, as when an archive is played again.
            level.published = {window: candle for window, candle in level.published.items() if window < now}
        for level in self._levels.values():
            if level.timeframe is not M1:
                # The first window may begin before anything that is published below it: roll that part up while its
                # minutes are still here.
                lower = self._lower(level.timeframe)
                for child in range(level.horizon, lower.horizon, lower.timeframe.seconds):
                    self._settled(lower, child)
        self.initialized = True
        return self._advance(self.clock, at, set())

    def _advance(self, clock: float, at: float, touched: set[int]) -> list[Candle]:
        """Move the clock and publish what that closes, and what has become of the `touched` minutes."""
        self.clock = max(self.clock, clock)
        if not self.initialized or not (touched or self._levels[M1].due + M1.seconds <= self.clock):
            return []
        published = self._publish({M1: touched}, at)
        self._forget()
        return published

    def _publish(self, touched: Mapping[Timeframe, Iterable[int]], at: float) -> list[Candle]:
        """Close what is due, correct what was touched, and pass both on to the higher timeframes."""
        published: list[Candle] = []
        rising: set[int] = set()
        for level in self._levels.values():
            length = level.timeframe.seconds
            now = level.timeframe.floor(self.clock)
            windows = sorted(
                {window for window in rising.union(touched.get(level.timeframe, ())) if window < level.due}
            )
            windows += range(level.due, now, length)
            level.due = max(level.due, now)
            heapify(windows)
            rising = set()
            last = None
            while windows:
                window = heappop(windows)
                if window == last or window < level.horizon:
                    continue
                last = window
                before = level.published.get(window)
                candle = self._close(level, window, at)
                if candle is None:
                    continue
                published.append(candle)
                after = window + length
                follower = level.published.get(after)
                if follower is None:
                    # It was never told: it waits for data, or had no price before this one.
                    changed = after < level.due
                else:
                    changed = after in level.held or (follower.infilled and follower.close != candle.close)
                if changed:
                    heappush(windows, after)
                if higher := level.timeframe.higher:
                    parent = higher.floor(window)
                    rising.add(parent)
                    if before and parent in self._levels[higher].direct:
                        self._levels[higher].overtaken.add(parent)
            if higher := level.timeframe.higher:
                # Any held parent may have been waiting for what has just become known of this level.
                rising |= self._levels[higher].held
        return published

    def _close(self, level: _Level, window: int, at: float) -> Candle | None:
        """The closed candle of a window that is over, if it can be told and is not what was published already."""
        if not self._resolve(level, window):
            level.held.add(window)
            return None
        complete = self._complete(level, window, window + level.timeframe.seconds)
        bar = level.bars.get(window)
        if bar is None:
            bar = self._price_before(level, window) if complete else None
        if bar is None:
            # Nothing to be flat at. That may yet arrive; if it cannot, this stays a gap.
            (level.held.discard if self._priceless(window) else level.held.add)(window)
            return None
        level.held.discard(window)
        known = level.published.get(window)
        shown = bar if window in level.bars else bar.flat()
        candle = candle_of(self.symbol, level.timeframe, window, shown, closed=True, complete=complete, at=at)
        if known:
            if _same(known, candle):
                return None
            candle = replace(candle, revision=known.revision + 1, at=max(at, known.at))
        level.published[window] = candle
        return candle

    def _resolve(self, level: _Level, window: int) -> bool:
        """Whether a window that is over is settled; rolls its bar up where all its children are."""
        if level.timeframe is M1:
            return level.settled(window)
        if window in level.direct and not (window in level.overtaken and self._whole_below(level, window)):
            # Kraken's own word stays until all of the parts tell more.
            return level.settled(window)
        lower = self._lower(level.timeframe)
        children = range(window, window + level.timeframe.seconds, lower.timeframe.seconds)
        if all(self._settled(lower, child) for child in children):
            rolled = roll_up(lower.bars[child] for child in children if child in lower.bars)
            known = level.bars.get(window)
            if rolled is None:
                level.bars.pop(window, None)
            elif known is None or not known.same_market(rolled):
                level.bars[window] = rolled
            level.known.add(window, window + level.timeframe.seconds)
            return True
        return level.settled(window)

    def _settled(self, level: _Level, window: int) -> bool:
        """Whether a window that is over is settled.

        What lies before the horizon is only rolled up when it is asked for.
        """
        if level.settled(window):
            return True
        return level.timeframe is not M1 and window < level.horizon and self._resolve(level, window)

    def _complete(self, level: _Level, start: int, end: float) -> bool:
        """Whether nothing of `[start, end)` was given up on; `start` is a window's open.

        A window that Kraken has told itself needs no minutes.
        """
        lowers = TIMEFRAMES[: TIMEFRAMES.index(level.timeframe) + 1]
        if not any(s < end and e > start for lower in lowers for s, e in self._levels[lower].lost):
            return True
        if level.timeframe is M1 or any(s < end and e > start for s, e in level.lost):
            return False
        if start in level.direct:
            return True
        lower = self._lower(level.timeframe)
        length = lower.timeframe.seconds
        return all(self._complete(lower, child, child + length) for child in range(start, M1.ceil(end), length))

    def _whole_below(self, level: _Level, window: int) -> bool:
        """Whether all children of a window above 1m are settled, and nothing of them was given up on."""
        lower = self._lower(level.timeframe)
        length = lower.timeframe.seconds
        return all(
            self._settled(lower, child) and self._complete(lower, child, child + length)
            for child in range(window, window + level.timeframe.seconds, length)
        )

    def _price_before(self, level: _Level, window: int) -> Bar | None:
        """A bar that ends with the last price before `window`, if all the time between that trade and `window` is
        known.
        """
        before = level.published.get(window - level.timeframe.seconds)
        if before and before.complete:
            return Bar.of(before)
        lowers = TIMEFRAMES[: TIMEFRAMES.index(level.timeframe) + 1]
        lost = [span for lower in lowers for span in self._levels[lower].lost]
        lost_until = max((min(end, window) for start, end in lost if start < window), default=0.0)
        for told_by in (level, self._levels[M1]):
            known_from = told_by.known.start_of(window)
            if known_from is None:
                continue
            known_from = max(known_from, lost_until)
            last = max((traded for traded in told_by.bars if traded < window), default=None)
            # A price that was told within a window that traded may not be its last one; one told later is the newer.
            told_from = known_from if last is None else max(known_from, last + told_by.timeframe.seconds)
            told = max((moment for moment in self._prices if told_from <= moment <= window), default=None)
            if told is not None:
                return self._prices[told]
            if last is not None and last >= known_from:
                return told_by.bars[last]
        return None

    def _priceless(self, window: int) -> bool:
        """Whether no price before `window` can be told: what lies before was given up on, or nothing traded as far back
        as anyone can see.
        """
        minutes = self._levels[M1]
        known_from = minutes.known.start_of(window)
        if known_from is None:
            return False
        return known_from <= window - _PRICE_WITHIN or any(known_from <= start <= window for start, _ in minutes.lost)

    # --- forming candles ---------------------------------------------------------------------------------------------

    def forming(self, at: float) -> list[Candle]:
        """The forming candles that changed since they were last asked for, lowest timeframe first; `at` as in a candle.

        Each is made of the closed children inside its window and the forming candle of the next lower timeframe.
        """
        if not self.initialized:
            return []
        changed = []
        minutes = self._levels[M1]
        now = M1.floor(self.clock)
        bar = minutes.bars.get(now)
        complete = minutes.known.covers(now, self.clock) or self.clock <= now
        for level in self._levels.values():
            window = level.timeframe.floor(self.clock)
            if level.timeframe is not M1:
                lower = self._lower(level.timeframe)
                children = range(window, lower.timeframe.floor(self.clock), lower.timeframe.seconds)
                parts = [part for child in children if (part := self._content(lower, child))]
                bar = roll_up([*parts, bar] if bar else parts)
                complete = complete and all(self._settled(lower, child) for child in children)
            price = bar or self._price_before(minutes, now)
            if price is None:
                continue
            candle = candle_of(
                self.symbol,
                level.timeframe,
                window,
                bar or price.flat(),
                closed=False,
                complete=complete and self._complete(level, window, self.clock),
                at=at,
            )
            if level.forming is None or not _same(level.forming, candle):
                level.forming = candle
                changed.append(candle)
        return changed

    def _content(self, level: _Level, window: int) -> Bar | None:
        """What is known to have traded in a window that is over, settled or not."""
        bar = level.bars.get(window)
        if bar or level.timeframe is M1 or level.settled(window):
            return bar
        lower = self._lower(level.timeframe)
        children = range(window, window + level.timeframe.seconds, lower.timeframe.seconds)
        return roll_up(part for child in children if (part := self._content(lower, child)))

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _lower(self, timeframe: Timeframe) -> _Level:
        if timeframe.lower is None:
            raise ValueError(f"expected a timeframe above 1m, got {timeframe.value}")
        return self._levels[timeframe.lower]

    def _forget(self) -> None:
        """Drop what no correction, held window or forming candle can need any more."""
        for level in self._levels.values():
            kept = KEPT[level.timeframe]
            if len(level.published) <= kept + kept // 4:
                continue
            length = level.timeframe.seconds
            bound = min(level.due - kept * length, min(level.held, default=level.due) - length)
            if higher := level.timeframe.higher:
                above = self._levels[higher]
                bound = min(bound, min(above.held, default=above.due), higher.floor(self.clock))
            for windows in (level.bars, level.published):
                for window in [window for window in windows if window < bound]:
                    del windows[window]
            level.direct = {window for window in level.direct if window >= bound}
            level.overtaken = {window for window in level.overtaken if window >= bound}
            level.horizon = max(level.horizon, bound)
            level.known.remove(float("-inf"), bound)
            if level.timeframe.higher:
                self._pass_on_lost(level, self._levels[level.timeframe.higher], bound)
            level.lost.remove(float("-inf"), bound)

    def _pass_on_lost(self, level: _Level, higher: _Level, bound: int) -> None:
        """What was given up on before `bound` is about to be forgotten: the candles above are still without it, but for
        those that Kraken has told itself.
        """
        length = higher.timeframe.seconds
        for start, end in level.lost:
            last = min(end, bound)
            for window in range(
                max(higher.timeframe.floor(start), higher.horizon), higher.timeframe.ceil(last), length
            ):
                if window not in higher.direct:
                    higher.lost.add(max(start, window), min(last, window + length))


def final_until(history: History) -> float:
    """Up to when (unix seconds) what a batch says will not change any more.

    A snapshot's range ends when it was taken; a REST answer's range is what was asked for, its rows say when they were
    received.
    """
    if history.source is not Source.SNAPSHOT and not history.candles:
        return history.covers.end
    taken = history.covers.end if history.source is Source.SNAPSHOT else history.at
    return taken - GRACE


def _same(a: Candle, b: Candle) -> bool:
    """Whether both candles say the same.

    Above 1m a vwap alone makes no difference: Kraken truncates its own, a roll-up does not.
    """
    return (
        (a.open_time, a.trades, a.infilled, a.complete) == (b.open_time, b.trades, b.infilled, b.complete)
        and (a.open, a.high, a.low, a.close, a.volume) == (b.open, b.high, b.low, b.close, b.volume)
        and (a.timeframe is not M1 or a.vwap == b.vwap)
    )
