"""The candle series of one symbol: what arrives, and which closed and forming candles follow.

Two lanes close candles. The fast lane closes minutes in order, and makes each a part of the higher windows, which close
from their parts. The slow lane recomputes the windows that a message touches from what is kept. After it the parts are
found anew, so both lanes rest on the same state (`docs/decisions/0027-two-lanes.md`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from aggregator.core.levels import Level, Levels
from aggregator.core.memory import Memory
from aggregator.core.windows import (
    AUTHORITATIVE,
    ROLLED_UP,
    STALE,
    Window,
    flat,
    roll_up,
    same_candle,
    same_market,
    with_state,
)
from ingress_common.model import GRACE, Candle, History, Range, Source
from ingress_common.timeframes import Timeframe

M1 = Timeframe.M1
_MINUTE = M1.seconds
_FIVE_MINUTES = Timeframe.M5.seconds
_SNAPSHOT = Source.SNAPSHOT
_FINAL = (Source.REST, Source.TRADES)
_FULL_SNAPSHOT = 8
_NEVER, _FAR = float("-inf"), float("inf")

_Touched = dict[Level, set[int]]


@dataclass(frozen=True, slots=True)
class Depth:
    """How far back, in windows of each timeframe, a series publishes when it starts.

    `fresh`: windows published from a seed although an earlier run published them too; None: all. A pair that no earlier
    run has published, and that first traded within `resumed` minutes, starts there. `resumed`: maximum windows
    republished since the earlier run's last candle; one REST response has 720.
    """

    fresh: int | None = 24
    resumed: int = 720


class CandleSeries:
    """All candles of one symbol, from whatever arrives in whatever order.

    Every method that processes data returns the closed candles to publish, lower timeframes first at a boundary.
    `forming` gives the forming ones. Nothing is published before history of all timeframes has arrived. `clock`: up to
    when (unix seconds) minutes can close. `in_order_from`: the start of the coverage with which minutes close in order
    (`close_in_order`); infinity while they do not. `forgotten_rows` counts the rows of windows that are already
    forgotten. `check_gaps_at`: the next time to call `gaps`, on its clock; minus infinity whenever they may have
    changed.
    """

    def __init__(self, symbol: str, depth: Depth, memory: Memory | None = None) -> None:
        self.symbol = symbol
        self.clock = float("-inf")
        self.forgotten_rows = 0
        self.initialized = False
        self.in_order_from = _FAR
        self.check_gaps_at = float("-inf")
        self._depth = depth
        self._levels = Levels(symbol, memory or Memory())
        self._minutes = self._levels.minutes
        self._five = self._levels.above_minutes[0]
        self._resumed: dict[Timeframe, int] = {}
        self._gap_since: int | None = None  # an earlier run had a gap somewhere after this time
        self._windows = self._minutes.windows
        self._parts = self._five.parts
        self._parts_found = False  # the levels' parts and `last` are those at `due`
        self._last: Candle | None = None  # a candle that ends with the price at `due`
        self._in_order = False  # the fast lane may go on from them
        self._closes_at = _FAR  # the end of the minute that the fast lane closes next
        self._gaps: tuple[int, list[tuple[Timeframe, Range]]] | None = None  # as found, and at which time

    # --- what arrives ------------------------------------------------------------------------------------------------

    def resume(self, candle: Candle) -> None:
        """Note the last candle of an earlier run. Everything after it is to be published.

        A forming one that was not complete shows a gap inside its window, which is then to be published too. Without
        effect once the seed is in.
        """
        if self.initialized:
            return
        owed = candle.close_time if candle.closed else candle.open_time
        if candle.closed:
            self._levels[candle.timeframe].window(candle.open_time).candle = candle
        elif not candle.complete:
            self._gap_since = min(candle.open_time, self._gap_since or candle.open_time)
        if candle.timeframe is M1 and (candle.closed or candle.infilled):
            self._levels.note_price(owed, candle)
        self._resumed[candle.timeframe] = max(owed, self._resumed.get(candle.timeframe, owed))

    def update(self, update: Candle) -> list[Candle]:
        """Process a candle update, which is the whole state of its minute so far."""
        minutes, window = self._minutes, update.open_time
        if window >= minutes.due:
            if window in minutes.windows or not update.trades:
                self._take_update(update)
            else:
                minutes.windows[window] = Window(update)  # the first one, as most are in a thin market
            return []
        if not self._take_update(update):
            return []
        if not self.initialized:
            return self._start(update.at)
        touched = self._pending_over(window, minutes.known.end_of(window))
        touched[minutes].add(window)
        return self._recompute(touched, update.at)

    def cover(self, start: float, end: float, at: float) -> list[Candle]:
        """Note that the feed was alive from `start` to `end` (unix seconds) and that all of its updates have arrived.

        The clock moves to `end`. `at` as in a candle.
        """
        known = self._minutes.known
        known_from = max(start, self._minutes.forgotten_until)
        gaps = known.gaps(known_from, end)
        only_time_goes_on = known.unbroken_until(known_from) >= known_from
        known.add(known_from, end)
        self.clock = max(self.clock, end)
        if not self.initialized:
            return []
        touched = None
        if not only_time_goes_on:
            self._note_change()  # even if nothing new is known, the clock may have passed a gap
            if gaps:
                touched = self._pending_over(gaps[0][0], known.end_of(gaps[0][0]))
        closed = self._advance(at, touched)
        if self._in_order and end == self.clock:
            self.in_order_from = start
        return closed

    def lacks(self, minute: int, trades: int) -> bool:
        """Whether updates of `minute` were lost: its feed has published `trades` trades of it, and fewer arrived."""
        minutes = self._minutes
        if self.initialized and minute < max(minutes.horizon, minutes.remembered_from):
            return False
        state = self._windows.get(minute)
        traded = state.traded if state else None
        # A REST row of a minute that was still open when it was taken may be followed by trades.
        final = traded and traded.source in _FINAL and traded.at >= minute + _MINUTE + GRACE
        return not (traded and (traded.trades >= trades or final))

    def uncover(self, minute: int) -> None:
        """Note that updates of `minute` were lost, so it is unknown until history covers it."""
        self._minutes.known.remove(minute, minute + _MINUTE)
        self._note_change()

    def history(self, history: History) -> list[Candle]:
        """Process a batch of Kraken's history, which is final for what had ended when it was taken, an update for the
        interval that was still open then.

        A row of 0 trades gives the price at its open; one that opens before the batch's range gives no more than that.
        """
        level = self._levels[history.timeframe]
        at, final, covers = history.at, final_until(history), history.covers
        known_to = min(covers.end, final)
        start = max(covers.start, level.remembered_from) if self.initialized else covers.start
        touched = self._take_rows(level, history, start, final)
        level.known.add(start, known_to)
        level.seeded = True
        if not self.initialized:
            if level is self._minutes:
                self.clock = max(self.clock, known_to)
            return self._start(at)
        self._note_change()
        gives_price = any(row.trades == 0 for row in history.candles)
        for one, windows in self._pending_over(start, max(level.known.end_of(start), covers.end)).items():
            if gives_price or one.seconds >= level.seconds:
                touched.setdefault(one, set()).update(windows)
        touched[level] |= self._mended(level, start, known_to)
        if (untraded := _untraded_until(history)) > self._levels.untraded_until:
            self._levels.untraded_until = untraded
            for one in self._levels:
                touched.setdefault(one, set()).update(window for window in one.pending if window < untraded)
        if level is self._minutes:
            self.clock = max(self.clock, known_to)
        return self._advance(at, touched)

    def give_up(self, timeframe: Timeframe, span: Range, at: float) -> list[Candle]:
        """Stop waiting for `span`: candles over it close with what is known, `complete` false.

        A later history batch still corrects them.
        """
        level = self._levels[timeframe]
        for start, end in level.known.gaps(span.start, span.end):
            self._levels.lose(level, start, end)
        level.known.add(span.start, span.end)
        return self._recompute(self._pending_over(span.start, level.known.end_of(span.start)), at)

    # --- what is published, and what is missing ----------------------------------------------------------------------

    def published(self, timeframe: Timeframe) -> list[Candle]:
        """The closed candles of `timeframe` that are published and maintained here, oldest first."""
        level = self._levels[timeframe]
        windows = sorted(level.windows.items())
        return [state.candle for window, state in windows if state.candle and window >= level.horizon]

    def refresh_forming(self) -> None:
        """Make `forming` return all forming candles next time, changed or not."""
        for level in self._levels:
            level.forming = None

    @property
    def horizons(self) -> Mapping[Timeframe, int]:
        """The first window of each timeframe (unix seconds) that is maintained here; empty before the start."""
        if not self.initialized:
            return {}
        return {
            level.timeframe: max(level.horizon, level.timeframe.ceil(level.remembered_from)) for level in self._levels
        }

    def gaps(self) -> list[tuple[Timeframe, Range]]:
        """The unknown time that is needed to close ended windows and to build the forming candles: whole windows,
        merged, lowest timeframe first. From the first published minute on these are minutes; before it, windows of the
        timeframe that needs them.
        """
        if not self.initialized:
            return []
        # While minutes close in order, time alone changes nothing.
        found_at = 0 if self._in_order else self._minutes.due
        if self._gaps is None or (self._gaps[1] and self._gaps[0] != found_at):
            found = [(timeframe, Range(start, end)) for timeframe, start, end in self._levels.gaps(self.clock)]
            self._gaps = found_at, found
        return self._gaps[1]

    @property
    def seeded(self) -> bool:
        """Whether history of all timeframes has arrived."""
        return self.initialized or all(level.seeded for level in self._levels)

    @property
    def lost(self) -> list[tuple[Timeframe, Range]]:
        """The time that was given up on."""
        return [(level.timeframe, Range(*span)) for level in self._levels for span in level.lost]

    @property
    def newest_minute(self) -> float:
        """The last minute that is known to have traded (unix seconds); minus infinity without one."""
        return max((window for window, state in self._windows.items() if state.traded), default=_NEVER)

    @property
    def pending(self) -> int:
        """How many windows are over but wait for data."""
        return sum(len(level.pending) for level in self._levels)

    # --- forming candles ---------------------------------------------------------------------------------------------

    def forming_minute(self, at: float) -> list[Candle]:
        """The forming 1m candle if it changed since the last call; `at` as in a candle."""
        return self._forming(self._minutes.up_to_here, at)

    def forming(self, at: float) -> list[Candle]:
        """The forming candles that changed since the last call, lowest timeframe first; `at` as in a candle.

        Each is made of the closed children inside its window and the forming candle of the next lower timeframe.
        """
        return self._forming(self._levels, at)

    def _forming(self, levels: Iterable[Level], at: float) -> list[Candle]:
        """Return the forming candles of `levels` that changed; `levels` are lowest first."""
        if not self.initialized:
            return []
        if not self._parts_found:
            self._find_parts()
        changed = []
        minutes, now, symbol, last = self._minutes, self._minutes.due, self.symbol, self._last
        complete = minutes.known.covers(now, self.clock) or self.clock <= now
        so_far = minutes.windows.get(now)
        for level in levels:
            window = now - now % level.seconds
            complete = complete and (level is minutes or level.known_so_far)
            whole = complete and self._levels.complete(level, window, self.clock)
            if level is minutes:
                traded = so_far.traded if so_far else None
                candle = traded and with_state(traded, closed=False, complete=whole, revision=0, at=at)
            else:
                parts = [*level.parts, so_far] if so_far else level.parts
                so_far = roll_up(symbol, level.timeframe, window, parts, at, closed=False, complete=whole)
                candle = so_far.traded if so_far else None
            if candle is None:
                if last is None:
                    continue
                candle = flat(symbol, level.timeframe, window, last, closed=False, complete=whole, at=at)
            if level.forming is None or not same_candle(level.forming, candle):
                level.forming = candle
                changed.append(candle)
        return changed

    # --- taking in ---------------------------------------------------------------------------------------------------

    def _take_update(self, update: Candle) -> bool:
        """Whether the minute's state changed: a state with fewer trades is older, whenever it arrives."""
        minutes, window = self._minutes, update.open_time
        is_over = self.initialized and window < minutes.due
        if update.trades == 0 or (is_over and self._is_forgotten(minutes, window)):
            return False
        state = minutes.windows.get(window)
        if state is None:
            minutes.windows[window] = Window(update)
            return True
        known = state.traded
        if known and (
            update.trades < known.trades
            or (update.trades == known.trades and update.vwap == known.vwap and same_market(update, known))
        ):
            return False
        state.traded = update
        return True

    def _take_rows(self, level: Level, history: History, start: float, final: float) -> _Touched:
        """Take the rows of a batch; gives the windows that they change. From before `start` only a price is kept."""
        changed: set[int] = set()
        earlier = None
        covered_from, seconds = history.covers.start, level.seconds
        for row in history.candles:
            window = row.open_time
            end = window + seconds
            if end <= start and (earlier is None or window > earlier.open_time):
                earlier = row
            if row.trades == 0:
                self._levels.note_price(max(covered_from, window), row)
                if window < covered_from:
                    continue
            if end <= final:
                if self._take_final(level, row):
                    changed.add(window)
            elif level is self._minutes and self._take_update(row):
                changed.add(window)
        if earlier and start < min(history.covers.end, final):
            self._levels.note_price(start, earlier)
        return {level: changed}

    def _take_final(self, level: Level, row: Candle) -> bool:
        """Whether a row that Kraken will not change any more differs from what is known."""
        window = row.open_time
        if self.initialized and self._is_forgotten(level, window):
            return False
        state = level.windows.get(window)
        if state is None:
            if row.trades:
                level.windows[window] = Window(row, None, None, ROLLED_UP if level is self._minutes else AUTHORITATIVE)
            return row.trades > 0
        if window < level.horizon:
            # What an earlier run published of it (`resume`) is not corrected here, and may be wrong.
            state.candle = None
        if row.trades == 0:
            if state.traded is None:
                return False
            state.traded = state.notional = None
            return True
        if state.traded and same_market(state.traded, row):
            return False
        state.traded, state.notional = row, None
        if level is not self._minutes:
            state.origin = AUTHORITATIVE
        return True

    def _is_forgotten(self, level: Level, window: int) -> bool:
        forgotten = window < level.remembered_from
        self.forgotten_rows += forgotten
        return forgotten

    def _mended(self, level: Level, start: float, end: float) -> set[int]:
        """The windows that a batch may complete: of what was given up on, and those that are over and were published
        without all of their minutes, or not at all, for want of minutes or of the price that the batch may begin with.
        """
        seconds = level.seconds
        mended: set[int] = set()
        for first, last in level.lost.between(start, end):
            windows = range(level.floor(first), level.timeframe.ceil(last), seconds)
            mended.update(window for window in windows if window >= start)
        self._levels.regain(level, start, end)
        first_whole = level.timeframe.ceil(max(start, level.horizon))
        for window in range(first_whole, min(level.floor(end), level.due), seconds):
            candle = level.published(window)
            if candle is None or not candle.complete:
                mended.add(window)
                if level is not self._minutes:
                    level.window(window).origin = AUTHORITATIVE  # Kraken has given them itself now
        return mended

    def _pending_over(self, start: float, end: float) -> _Touched:
        """The pending windows of all timeframes that something known of `[start, end]` may close."""
        return {level: set(level.pending_between(start, end)) for level in self._levels}

    # --- start and time ----------------------------------------------------------------------------------------------

    def _start(self, at: float) -> list[Candle]:
        """Begin to publish, once all timeframes have been seeded and there is a price."""
        minutes = self._minutes
        if not self.seeded:
            return []
        first_minute = minutes.first_traded
        if first_minute is None and M1 not in self._resumed:
            return []
        born = self._born() if self._depth.fresh else None
        for level in self._levels:
            now = level.floor(self.clock)
            first = level.first_traded
            if first is None:
                first = now
            if first_minute is not None:
                first = min(first, level.floor(first_minute))
            if self._depth.fresh is not None:
                first = max(first, now - self._depth.fresh * level.seconds)
                if born is not None and level.timeframe not in self._resumed:
                    first = min(first, level.floor(born))
            owed = self._resumed.get(level.timeframe, first)
            if self._gap_since is not None:
                owed = min(owed, level.floor(self._gap_since))
            level.horizon = level.due = min(first, max(owed, now - self._depth.resumed * level.seconds))
            level.forget_at = level.due + level.kept * level.seconds
            for window, state in level.windows.items():
                if window >= now:
                    # What is retained of a time to come is of another run, as when an archive is played again.
                    state.candle = None
        earliest = minutes.known.first
        for level in self._levels.above_minutes:
            self._levels.roll_up_before(level, earliest)
            earliest = min(earliest, level.known.first)
        self.initialized = True
        out = self._recompute({}, at)
        self._forget()
        return out

    def _born(self) -> float | None:
        """An instant (unix seconds) up to a window before the pair's first trade, of a pair so young that one REST
        response may have all its minutes; else None.

        A snapshot holds the last ten or so windows that traded, so one with fewer holds all there ever were.
        """
        for level in self._levels:
            traded = [window for window, state in level.windows.items() if state.traded]
            if 0 < len(traded) < _FULL_SNAPSHOT:
                born, reach = min(traded), self.clock - self._depth.resumed * _MINUTE
                return max(born, reach) if born + level.seconds > reach else None
        return None

    def _advance(self, at: float, touched: _Touched | None = None) -> list[Candle]:
        """Publish what the clock closes, and what has become of the `touched` windows."""
        minutes = self._minutes
        touched = touched and {
            level: windows
            for level, all_windows in touched.items()
            if (windows := {window for window in all_windows if level.horizon <= window < level.due})
        }
        if not touched:
            if minutes.due + _MINUTE > self.clock:
                return []
            if not self._parts_found:
                self._find_parts()
            if self._in_order:
                return self.close_in_order(self.clock, at)
        out = self._recompute(touched or {}, at)
        if minutes.due >= minutes.forget_at:
            self._forget()
        return out

    def _forget(self) -> None:
        horizon = self._minutes.horizon
        self._levels.forget(self.clock)
        if self._minutes.horizon != horizon and self._gaps and self._gaps[1]:
            self._note_gaps()

    def _note_change(self) -> None:
        """Mark the parts and the gaps as outdated: the kept windows changed otherwise than by the fast lane."""
        self._parts_found = self._in_order = False
        self.in_order_from = _FAR
        self._note_gaps()

    def _note_gaps(self) -> None:
        self._gaps = None
        self.check_gaps_at = float("-inf")

    # --- the fast lane -----------------------------------------------------------------------------------------------

    def _find_parts(self) -> None:
        """Find the parts of the open windows among the kept ones, and whether the fast lane can continue from them."""
        due, minutes = self._minutes.due, self._minutes
        for level in self._levels.above_minutes:
            self._levels.find_parts(level, due)
        self._last = self._levels.price_before(minutes, due)
        self._parts_found = True
        self._closes_at = float(due + _MINUTE)
        self._in_order = (
            minutes.known.unbroken_until(due) >= max(due, self.clock)
            and minutes.lost.end <= due
            and all(level.due == due - due % level.seconds for level in self._levels)
        )

    def close_in_order(self, until: float, at: float) -> list[Candle]:
        """The coverage continues until `until` (unix seconds). Close the minutes that end by then in order, and the
        higher windows that end with them.

        `until` continues the coverage that began at `in_order_from`. `at` as in a candle.
        """
        minutes, clock = self._minutes, self.clock
        if until > clock:
            minutes.known.append(clock, until)
            self.clock = until
        last, closes_at = self._last, self._closes_at
        if last is None:
            return self._recompute({}, at)
        out: list[Candle] = []
        windows, window = self._windows, minutes.due
        while closes_at <= until:
            state = windows.get(window)
            if state is not None and (traded := state.traded) is not None:
                last = state.traded = state.candle = replace(
                    traded, closed=True, infilled=False, complete=True, revision=0, at=at
                )
                self._parts.append(state)
            else:
                last = flat(self.symbol, M1, window, last, closed=True, complete=True, at=at)
                windows[window] = Window(None, last)
            out.append(last)
            window += _MINUTE
            closes_at += 60.0
            if window % _FIVE_MINUTES == 0:
                minutes.due = window
                self._close_above(window, at, out)
        minutes.due = window
        self._last = last
        self._closes_at = closes_at
        return out

    def _close_above(self, end: int, at: float, out: list[Candle]) -> None:
        """Close the higher windows that end at `end`, a boundary of 5m."""
        symbol = self.symbol
        for level in self._levels.above_minutes:
            seconds = level.seconds
            if end % seconds:
                break
            window, parts, higher = end - seconds, level.parts, level.higher
            level.due = end
            candle = None
            if level.whole and window not in level.windows:
                state = roll_up(symbol, level.timeframe, window, parts, at)
                if state:
                    candle = state.candle = state.traded
                    level.windows[window] = state
                    if higher:
                        higher.parts.append(state)
                elif (before := level.published(window - seconds)) and before.complete:
                    candle = flat(symbol, level.timeframe, window, before, closed=True, complete=True, at=at)
                    level.windows[window] = Window(None, candle)
            if candle:
                level.known.append(window, end)
            else:
                candle = self._close(level, window, at)
                if higher:
                    self._levels.carry(higher, window)
                if window < self._minutes.horizon:
                    self._note_gaps()
            if candle:
                out.append(candle)
            parts.clear()
            level.whole = level.known_so_far = True
        if end >= self._minutes.forget_at:
            self._forget()

    # --- the slow lane -----------------------------------------------------------------------------------------------

    def _recompute(self, touched: _Touched, at: float) -> list[Candle]:
        """Close what is due, correct what was touched, and pass both on to the higher timeframes."""
        self._note_change()
        out: list[Candle] = []
        rising: set[int] = set()
        for level in self._levels:
            seconds, due, higher = level.seconds, level.due, level.higher
            now = level.floor(self.clock)
            rising |= touched.get(level, set())
            queue = sorted(window for window in rising if level.horizon <= window < due)
            queue += range(max(due, level.horizon), now, seconds)
            queue.reverse()  # the next one last
            level.due = max(due, now)
            rising = set()
            while queue:
                window = queue.pop()
                candle = self._close(level, window, at)
                if candle:
                    out.append(candle)
                    following = window + seconds
                    if (not queue or queue[-1] != following) and _follows(level, following, candle):
                        queue.append(following)
                if higher:
                    parent = window - window % higher.seconds
                    state = higher.windows.get(parent)
                    if candle or (state and state.pending):
                        rising.add(parent)
                    if candle and candle.revision and state and state.origin is AUTHORITATIVE:
                        state.origin = STALE
        return out

    def _close(self, level: Level, window: int, at: float) -> Candle | None:
        """The closed candle of a window that is over, if it can be built and is not what was published already."""
        if not self._levels.resolve(level, window):
            level.suspend(window)
            return None
        state = level.windows.get(window)
        traded = state.traded if state else None
        published = state.candle if state else None
        complete = self._levels.complete(level, window, window + level.seconds)
        if traded is None:
            price = self._levels.price_before(level, window) if complete else None
            if price is None:
                # No earlier price is known, so no flat candle can be built. Keep the window pending while a price can
                # still arrive; otherwise it stays a gap.
                (level.resume if self._levels.priceless(window) else level.suspend)(window)
                return None
            candle = flat(self.symbol, level.timeframe, window, price, closed=True, complete=complete, at=at)
        else:
            candle = with_state(traded, closed=True, complete=complete, revision=0, at=at)
        if state is None:
            level.windows[window] = Window(None, candle)
            return candle
        if state.pending:
            level.resume(window)
        if published:
            if same_candle(published, candle):
                return None
            revision, at = published.revision + 1, max(at, published.at)
            candle = with_state(candle, closed=True, complete=complete, revision=revision, at=at)
        state.candle = candle
        if traded:
            state.traded = candle  # of the same trades: one object less to keep
        return candle


def _follows(level: Level, window: int, before: Candle) -> bool:
    """Whether a window that is over depends on what was just published of the one before it."""
    if window >= level.due:
        return False
    state = level.windows.get(window)
    if state is None or state.candle is None or state.pending:
        return True
    return state.candle.infilled and state.candle.close != before.close


def _untraded_until(history: History) -> float:
    """Up to when (unix seconds) a REST response shows that the pair had not traded at all; else minus infinity.

    A response begins with the last price if there is one, in the first whole window that it covers.
    """
    start, end = history.timeframe.ceil(history.covers.start), history.covers.end
    if history.source not in _FINAL or not start < end:
        return _NEVER
    first = min((row.open_time for row in history.candles), default=end)
    return first if first > start else _NEVER


def final_until(history: History) -> float:
    """The time (unix seconds) up to which the rows of a batch are final.

    A snapshot is final up to GRACE before it was taken. A REST response is final up to GRACE before its rows' receipt,
    because its range is the requested one; without rows, up to the end of that range.
    """
    if history.source is not _SNAPSHOT and not history.candles:
        return history.covers.end
    taken = history.covers.end if history.source is _SNAPSHOT else history.at
    return taken - GRACE
