"""Coverage: which time is known."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Intervals:
    """A set of instants as disjoint, sorted half-open intervals `[start, end)` in unix seconds.

    Touching ones are one. Every method but `remove` and iteration costs a binary search and what it returns.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def first(self) -> float:
        """The first instant; infinity if the set is empty."""
        return self._starts[0] if self._starts else float("inf")

    @property
    def end(self) -> float:
        """The end of the last interval; minus infinity if the set is empty."""
        return self._ends[-1] if self._ends else float("-inf")

    def add(self, start: float, end: float) -> None:
        """Add `[start, end)`; nothing if it is empty."""
        if end <= start:
            return
        starts, ends = self._starts, self._ends
        first = bisect_left(ends, start)
        last = bisect_right(starts, end)
        if first < last:
            if starts[first] < start:
                start = starts[first]
            if ends[last - 1] > end:
                end = ends[last - 1]
        starts[first:last] = (start,)
        ends[first:last] = (end,)

    def append(self, start: float, end: float) -> None:
        """Add `[start, end)`; cheapest if it begins at the end of the last interval."""
        ends = self._ends
        if ends and ends[-1] == start:
            ends[-1] = end
        else:
            self.add(start, end)

    def remove(self, start: float, end: float) -> None:
        """Remove `[start, end)`."""
        if end <= start:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last:
            return
        starts = [self._starts[first]] if self._starts[first] < start else []
        ends = [start] if starts else []
        if self._ends[last - 1] > end:
            starts.append(end)
            ends.append(self._ends[last - 1])
        self._starts[first:last] = starts
        self._ends[first:last] = ends

    def remove_before(self, end: float) -> None:
        """Remove everything before `end`."""
        first = bisect_right(self._ends, end)
        del self._starts[:first], self._ends[:first]
        if self._starts and self._starts[0] < end:
            self._starts[0] = end

    def covers(self, start: float, end: float) -> bool:
        """Whether all of `[start, end)` is in the set."""
        i = bisect_right(self._starts, start) - 1
        return i >= 0 and self._ends[i] >= end

    def overlaps(self, start: float, end: float) -> bool:
        """Whether anything of `[start, end)` is in the set."""
        i = bisect_left(self._starts, end) - 1
        return i >= 0 and self._ends[i] > start

    def between(self, start: float, end: float) -> list[tuple[float, float]]:
        """The whole intervals that overlap `[start, end)`."""
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        return list(zip(self._starts[first:last], self._ends[first:last], strict=True))

    def start_of(self, instant: float) -> float | None:
        """The start of the interval that `instant` is in or that ends there; None if there is none."""
        i = bisect_right(self._starts, instant) - 1
        return self._starts[i] if i >= 0 and self._ends[i] >= instant else None

    def end_of(self, instant: float) -> float:
        """The end of the interval that `instant` is in; `instant` itself if there is none."""
        i = bisect_right(self._starts, instant) - 1
        return max(instant, self._ends[i]) if i >= 0 else instant

    def unbroken_until(self, instant: float) -> float:
        """The end of the last interval if `instant` is in it; minus infinity if it is not."""
        return self._ends[-1] if self._starts and self._starts[-1] <= instant else float("-inf")

    def last_before(self, instant: float) -> float:
        """The end of the part of the set that lies before `instant`; minus infinity if there is none."""
        i = bisect_left(self._starts, instant) - 1
        return min(self._ends[i], instant) if i >= 0 else float("-inf")

    def starts_within(self, start: float, end: float) -> bool:
        """Whether an interval starts in `[start, end]`."""
        return bisect_left(self._starts, start) < bisect_right(self._starts, end)

    def gaps(self, start: float, end: float) -> list[tuple[float, float]]:
        """The parts of `[start, end)` that are not in the set, in order."""
        found = []
        i = bisect_right(self._ends, start)
        while i < len(self._starts) and self._starts[i] < end:
            if self._starts[i] > start:
                found.append((start, self._starts[i]))
            start = self._ends[i]
            i += 1
        if start < end:
            found.append((start, end))
        return found
