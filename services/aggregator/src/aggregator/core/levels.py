"""What is known of a symbol's windows in each timeframe, and the candles that follow from it.

A window is named by its open time (unix seconds).
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from aggregator.core.coverage import Intervals
from aggregator.core.memory import LONGEST, Memory
from aggregator.core.windows import ROLLED_UP, STALE, Window, roll_up, same_market
from ingress_common.model import Candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe

PRICE_WITHIN = LONGEST
"""Seconds before a window in which its flat price is looked for."""

_PRICES_KEPT = 8
_NEVER = float("-inf")
_NOT_YET = 2**62
_M1 = Timeframe.M1


@dataclass(slots=True, eq=False)
class Level:
    """The windows of one timeframe.

    `known`: the known time. `lost`: the part of it that was given up on. `pending`: the pending windows, in order.
    `horizon`: the first published window; `due`: the next window to end, far in the future before the start. `parts`:
    the traded closed children of the window that is open at `due`; `whole`: all its closed children are known and
    complete; `known_so_far`: they are known. `forming`: the forming candle returned last. `forgotten_until`:
    everything earlier was dropped; `forget_at`: the `due` at which to look for more to drop.
    """

    timeframe: Timeframe
    memory: Memory
    lower: "Level | None"
    higher: "Level | None" = None
    windows: dict[int, Window] = field(default_factory=dict)
    known: Intervals = field(default_factory=Intervals)
    lost: Intervals = field(default_factory=Intervals)
    pending: list[int] = field(default_factory=list)
    horizon: int = 0
    due: int = _NOT_YET
    seeded: bool = False
    forming: Candle | None = None
    parts: list[Window] = field(default_factory=list)
    whole: bool = False
    known_so_far: bool = False
    forgotten_until: float = _NEVER
    forget_at: float = _NEVER
    seconds: int = field(init=False)
    up_to_here: "tuple[Level, ...]" = field(init=False)  # the lower levels and this one

    def __post_init__(self) -> None:
        self.seconds = self.timeframe.seconds
        self.up_to_here = (*self.lower.up_to_here, self) if self.lower else (self,)

    def floor(self, instant: float) -> int:
        """The window that `instant` (unix seconds) falls into."""
        return int(instant // self.seconds) * self.seconds

    @property
    def kept(self) -> int:
        """How many closed windows are kept."""
        return self.memory[self.timeframe]

    def is_known(self, window: int) -> bool:
        """Whether all of the window's time is known."""
        return self.known.covers(window, window + self.seconds)

    def window(self, window: int) -> Window:
        """The state of a window; a new one if nothing is known of it."""
        state = self.windows.get(window)
        if state is None:
            state = self.windows[window] = Window()
        return state

    def published(self, window: int) -> Candle | None:
        """The published closed candle of a window; None without one."""
        state = self.windows.get(window)
        return state.candle if state else None

    def suspend(self, window: int) -> None:
        """Mark a window as pending."""
        state = self.window(window)
        if not state.pending:
            state.pending = True
            insort(self.pending, window)

    def resume(self, window: int) -> None:
        """Mark a window as no longer pending."""
        state = self.windows.get(window)
        if state and state.pending:
            state.pending = False
            i = bisect_left(self.pending, window)
            del self.pending[i]
            if i == 0:
                # It may have kept much in memory: schedule the next look early, but not at every window.
                self.forget_at = min(self.forget_at, self.due + self.kept // 16 * self.seconds)

    def pending_between(self, start: float, end: float) -> list[int]:
        """The pending windows that overlap `[start, end]`."""
        return self.pending[bisect_left(self.pending, self.floor(start)) : bisect_right(self.pending, end)]

    @property
    def remembered_from(self) -> float:
        """The time (unix seconds) from which data is accepted; the windows of older data are forgotten."""
        from_due = max(self.due - self.kept * self.seconds, self.forgotten_until)
        return min(from_due, self.pending[0]) if self.pending else from_due

    @property
    def first_traded(self) -> int | None:
        """The first window that traded; None if there is none."""
        return min([window for window, state in self.windows.items() if state.traded], default=None)

    def last_traded(self, before: int, since: float) -> int | None:
        """The last window that traded and opens before `before`, no earlier than the window of `since`; None if there
        is none.
        """
        windows, seconds = self.windows, self.seconds
        for window in range(before - seconds, self.floor(since) - 1, -seconds):
            if (state := windows.get(window)) and state.traded:
                return window
        return None


class Levels:
    """All levels of one symbol, lowest first, and the rules by which one follows from the others."""

    def __init__(self, symbol: str, memory: Memory) -> None:
        self._symbol = symbol
        levels: list[Level] = []
        for timeframe in TIMEFRAMES:
            levels.append(Level(timeframe, memory, levels[-1] if levels else None))
            if len(levels) > 1:
                levels[-2].higher = levels[-1]
        self._levels = tuple(levels)
        self._by_timeframe = {level.timeframe: level for level in levels}
        self.minutes = levels[0]
        self.above_minutes = self._levels[1:]
        self.untraded_until = _NEVER
        """Before this instant (unix seconds) the pair has not traded."""
        self._prices: dict[float, Candle] = {}
        self._something_lost = False

    def __iter__(self) -> Iterator[Level]:
        return iter(self._levels)

    def __getitem__(self, timeframe: Timeframe) -> Level:
        return self._by_timeframe[timeframe]

    # --- what is known -----------------------------------------------------------------------------------------------

    def knows(self, level: Level, window: int) -> bool:
        """Whether a window that is over is known. One before the horizon is rolled up here, when it is needed."""
        if level.is_known(window):
            return True
        return level.lower is not None and window < level.horizon and self.resolve(level, window)

    def resolve(self, level: Level, window: int) -> bool:
        """Whether a window that is over is known. Rolls it up from its children if all of them are."""
        lower, end = level.lower, window + level.seconds
        state = level.windows.get(window)
        if lower is None or (state and not self._follows_children(level, window, state)):
            return level.known.covers(window, end)
        children = range(window, end, lower.seconds)
        if not lower.known.covers(window, end) and not (
            window < lower.horizon and all(self.knows(lower, child) for child in children)
        ):
            return level.known.covers(window, end)
        parts = [part for child in children if (part := lower.windows.get(child))]
        rolled_up = roll_up(self._symbol, level.timeframe, window, parts, 0.0)
        if rolled_up is None:
            if state:
                state.traded = state.notional = None
        elif state is None:
            level.windows[window] = rolled_up
        elif rolled_up.traded and not (state.traded and same_market(state.traded, rolled_up.traded)):
            state.traded, state.notional = rolled_up.traded, rolled_up.notional
        level.known.add(window, end)
        return True

    def _follows_children(self, level: Level, window: int, state: Window) -> bool:
        """Keep Kraken's own candle until a child was corrected and every child is complete."""
        if state.origin is ROLLED_UP:
            return True
        lower = level.lower
        return (
            state.origin is STALE
            and lower is not None
            and all(
                self.knows(lower, child) and self.complete(lower, child, child + lower.seconds)
                for child in range(window, window + level.seconds, lower.seconds)
            )
        )

    def complete(self, level: Level, start: int, end: float) -> bool:
        """Whether nothing of `[start, end)` was given up on; `start` is a window's open.

        Kraken's own candle of a window needs no minutes.
        """
        if not self._something_lost or not any(one.lost.overlaps(start, end) for one in level.up_to_here):
            return True
        lower = level.lower
        if lower is None or level.lost.overlaps(start, end):
            return False
        state = level.windows.get(start)
        if state and state.origin is not ROLLED_UP:
            return True
        children = range(start, _M1.ceil(end), lower.seconds)
        return all(self.complete(lower, child, child + lower.seconds) for child in children)

    def lose(self, level: Level, start: float, end: float) -> None:
        """Give up on `[start, end)`."""
        level.lost.add(start, end)
        self._something_lost = True

    def regain(self, level: Level, start: float, end: float) -> None:
        """Note that data of `[start, end)` has arrived after all."""
        level.lost.remove(start, end)
        self._something_lost = any(one.lost for one in self._levels)

    def roll_up_before(self, level: Level, earliest: float) -> None:
        """Roll up the children before their horizon that the first window of `level` needs, while their parts are kept.

        `earliest`: the first time (unix seconds) known of those parts.
        """
        lower = level.lower
        if lower is None or earliest >= lower.horizon:
            return
        for child in range(max(level.horizon, lower.floor(earliest)), lower.horizon, lower.seconds):
            self.knows(lower, child)

    def find_parts(self, level: Level, until: int) -> None:
        """Find the parts of the window of `level` that is open at `until` (unix seconds)."""
        lower = level.lower
        if lower is None:
            return
        window = level.floor(until)
        level.parts.clear()
        level.whole = level.known_so_far = True
        for child in range(window, lower.floor(until), lower.seconds):
            self.carry(level, child)
        level.whole = level.whole and not level.lost.overlaps(window, until)

    def carry(self, level: Level, child: int) -> None:
        """Add a child that is over to the parts of the open window of `level`."""
        lower = level.lower
        if lower is None:
            return
        if not self.knows(lower, child):
            level.whole = level.known_so_far = False
        elif level.whole and not self.complete(lower, child, child + lower.seconds):
            level.whole = False
        if content := self._content(lower, child):
            level.parts.append(content)

    def _content(self, level: Level, window: int) -> Window | None:
        """The trades of a window that is over, as far as they are known; None without any."""
        state = level.windows.get(window)
        if state and state.traded:
            return state
        lower = level.lower
        if lower is None or level.is_known(window):
            return None
        children = range(window, window + level.seconds, lower.seconds)
        parts = [part for child in children if (part := self._content(lower, child))]
        return roll_up(self._symbol, level.timeframe, window, parts, 0.0)

    # --- prices ------------------------------------------------------------------------------------------------------

    def note_price(self, instant: float, candle: Candle) -> None:
        """Note that `candle` ends with the price at `instant` (unix seconds)."""
        self._prices.pop(instant, None)
        self._prices[instant] = candle
        if len(self._prices) > _PRICES_KEPT:
            del self._prices[next(iter(self._prices))]

    def price_before(self, level: Level, window: int) -> Candle | None:
        """A candle that ends with the last price before `window`, if all the time since its trades is known."""
        before = level.published(window - level.seconds)
        if before and before.complete:
            return before
        lost_until = max(one.lost.last_before(window) for one in level.up_to_here)
        for source in (level, self.minutes):
            known_from = source.known.start_of(window)
            if known_from is None:
                continue
            known_from = max(known_from, lost_until)
            traded = source.last_traded(window, known_from)
            # A price noted within a traded window may not be its last one; only a later one is newer.
            noted_from = known_from if traded is None else max(known_from, traded + source.seconds)
            noted = max((instant for instant in self._prices if noted_from <= instant <= window), default=None)
            if noted is not None:
                return self._prices[noted]
            if traded is not None and traded >= known_from:
                return source.windows[traded].traded
        return None

    def priceless(self, window: int) -> bool:
        """Whether no price before `window` can be found: the pair had not traded, earlier time was given up on, or
        nothing traded within PRICE_WITHIN.
        """
        if window < self.untraded_until:
            return True
        known_from = self.minutes.known.start_of(window)
        if known_from is None:
            return False
        return known_from <= window - PRICE_WITHIN or self.minutes.lost.starts_within(known_from, window)

    # --- what is missing, and what is forgotten ----------------------------------------------------------------------

    def gaps(self, clock: float) -> list[tuple[Timeframe, float, float]]:
        """The unknown time that is needed at `clock` to close ended windows and to build the forming candles: whole
        windows, merged, lowest timeframe first. From the first published minute on these are minutes; before it,
        windows of the timeframe that needs them.
        """
        minutes = self.minutes
        wanted = {level: Intervals() for level in self._levels}
        for start, end in minutes.known.gaps(minutes.horizon, clock):
            wanted[minutes].add(minutes.floor(start), _M1.ceil(end))
        for window in minutes.pending:
            if minutes.is_known(window) and (known_from := minutes.known.start_of(window)) is not None:
                wanted[minutes].add(minutes.floor(window - PRICE_WITHIN), _M1.ceil(known_from))
        for level in self.above_minutes:
            for window in level.pending[: bisect_left(level.pending, minutes.horizon)]:
                if not self._follows_from_minutes(level, window):
                    wanted[level].add(window, window + level.seconds)
            if lower := level.lower:
                for child in range(level.floor(clock), min(lower.floor(clock), minutes.horizon), lower.seconds):
                    if not (self.knows(lower, child) or self._follows_from_minutes(lower, child)):
                        wanted[lower].add(child, child + lower.seconds)
        return [(level.timeframe, start, end) for level, spans in wanted.items() for start, end in spans]

    def _follows_from_minutes(self, level: Level, window: int) -> bool:
        """Whether a window will be known once all published minutes are known."""
        lower = level.lower
        if lower is None:
            return window >= level.horizon
        end = min(window + level.seconds, self.minutes.horizon)
        return all(
            lower.is_known(child) or self._follows_from_minutes(lower, child)
            for child in range(window, end, lower.seconds)
        )

    def forget(self, clock: float) -> None:
        """Drop what no correction, pending window or forming candle can need any more."""
        for level in self._levels:
            due = level.due
            if due < level.forget_at:
                continue
            kept, seconds, windows = level.kept, level.seconds, level.windows
            spare = kept // 8
            room = kept + spare - len(windows)
            level.forget_at = due + max(room, spare) * seconds
            if room >= 0:
                continue
            bound = due - kept * seconds
            if level.pending:
                bound = min(bound, level.pending[0] - seconds)
            if higher := level.higher:
                first_above = higher.pending[0] if higher.pending else higher.due
                bound = min(bound, first_above, higher.floor(clock))
            if bound <= level.forgotten_until:
                continue
            first = min(windows) if level.forgotten_until == _NEVER else int(level.forgotten_until)
            for window in range(first, bound, seconds):
                windows.pop(window, None)
            level.horizon = max(level.horizon, bound)
            level.forgotten_until = bound
            level.known.remove_before(bound)
            if self._something_lost:
                if higher:
                    _pass_up_lost(level.lost, higher, bound)
                self.regain(level, _NEVER, bound)


def _pass_up_lost(lost: Iterable[tuple[float, float]], higher: Level, bound: int) -> None:
    """Mark what was given up on before `bound` at the level above, where it is about to be forgotten: the candles there
    are still without it, except Kraken's own.
    """
    for start, end in lost:
        last = min(end, bound)
        windows = range(max(higher.floor(start), higher.horizon), higher.timeframe.ceil(last), higher.seconds)
        for window in windows:
            state = higher.windows.get(window)
            if state is None or state.origin is ROLLED_UP:
                higher.lost.add(max(start, window), min(last, window + higher.seconds))
