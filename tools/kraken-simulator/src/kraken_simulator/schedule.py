"""The schedule of due markets; the cost of a step depends on the due markets, not on all."""

from heapq import heappop, heappush


class Schedule:
    """The next due time of each symbol, in unix nanoseconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._times: dict[str, int] = {}

    def set(self, symbol: str, time: int | None) -> None:
        """Set the due time of a symbol, replacing an earlier one; None removes it."""
        if time is None:
            self._times.pop(symbol, None)
        elif self._times.get(symbol) != time:
            self._times[symbol] = time
            heappush(self._heap, (time, symbol))

    def take_due(self, now: int) -> list[str]:
        """Remove and return the symbols that are due by `now`, each once."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            time, symbol = heappop(self._heap)
            if self._times.get(symbol) == time:
                del self._times[symbol]
                due.append(symbol)
        return due
