"""Coverage: which time is known."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Intervals:
    """A set of instants as disjoint, sorted half-open intervals `[start, end)` in unix seconds.

    Touching ones are one.
    """

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __bool__(self) -> bool:
        return bool(self._starts)

    def add(self, start: float, end: float) -> None:
        """Add `[start, end)`; nothing if it is empty."""
        if end <= start:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: float, end: float) -> None:
        """Take `[start, end)` out."""
        if end <= start:
            return
        kept = [(s, e) for s, e in self if e <= start or s >= end]
        for s, e in self:
            if s < start < e:
                kept.append((s, start))
            if s < end < e:
                kept.append((end, e))
        kept.sort()
        self._starts = [s for s, _ in kept]
        self._ends = [e for _, e in kept]

    def covers(self, start: float, end: float) -> bool:
        """Whether all of `[start, end)` is in the set."""
        i = bisect_right(self._starts, start) - 1
        return i >= 0 and self._ends[i] >= end

    def start_of(self, instant: float) -> float | None:
        """The start of the interval that `instant` is in or that ends there; None if there is none."""
        i = bisect_right(self._starts, instant) - 1
        return self._starts[i] if i >= 0 and self._ends[i] >= instant else None

    def holes(self, start: float, end: float) -> list[tuple[float, float]]:
        """The parts of `[start, end)` that are not in the set, in order."""
        found = []
        for s, e in self:
            if e <= start:
                continue
            if s >= end:
                break
            if s > start:
                found.append((start, s))
            start = e
        if start < end:
            found.append((start, end))
        return found
