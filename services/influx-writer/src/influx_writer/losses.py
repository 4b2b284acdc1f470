"""Closed candles that are missing by their sequence numbers (`ingress_common.sequence`)."""

from dataclasses import dataclass, field

from ingress_common.sequence import Numbered

_RUNS = 4
_MOST_MISSING = 1_000_000


@dataclass(slots=True)
class _Run:
    """One run of a publisher: the `last` number received, the `at` of that candle, and the numbers missing below it."""

    last: int
    at: float
    missing: list[range] = field(default_factory=list)


class SequenceGaps:
    """Follows the numbers of each symbol. Neither a repeated message nor a new run that begins at 1 is a loss."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, _Run]] = {}
        self._missing: dict[str, int] = {}

    @property
    def missing(self) -> int:
        """How many closed candles are known to be published and have not arrived."""
        return sum(self._missing.values())

    def newest(self, symbol: str) -> float | None:
        """The latest `at` (unix seconds) received of `symbol`; None without one."""
        return max((run.at for run in self._runs.get(symbol, {}).values()), default=None)

    def take(self, symbol: str, numbered: Numbered, at: float) -> float | None:
        """Process a received closed candle. If candles before it are missing, returns the `at` of the last one
        received.
        """
        runs = self._runs.setdefault(symbol, {})
        run = runs.get(numbered.run)
        if run is not None and numbered.number == run.last + 1:
            run.last, run.at = numbered.number, at
            return None
        if run is None:
            # The first run may have begun long ago; of a later run everything should have arrived.
            before = numbered.number - 1 if not runs else 0
            known_until = self.newest(symbol)
            run = runs[numbered.run] = _Run(before, at if known_until is None else known_until)
            self._forget_old_runs(runs)
        if numbered.number <= run.last:
            self._came_late(symbol, run, numbered.number)
            return None
        lost = range(run.last + 1, numbered.number)
        since = run.at
        run.last, run.at = numbered.number, at
        if not 0 < len(lost) <= _MOST_MISSING:
            return None
        run.missing.append(lost)
        self._missing[symbol] = self._missing.get(symbol, 0) + len(lost)
        return since

    def filled(self, symbol: str) -> None:
        """Note that the missing candles of `symbol` were republished and received."""
        self._missing.pop(symbol, None)
        for run in self._runs.get(symbol, {}).values():
            run.missing.clear()

    def forget(self, symbol: str) -> None:
        """Forget `symbol`, which another writer owns now."""
        self._runs.pop(symbol, None)
        self._missing.pop(symbol, None)

    def _came_late(self, symbol: str, run: _Run, number: int) -> None:
        for position, lost in enumerate(run.missing):
            if number in lost:
                rest = (range(lost.start, number), range(number + 1, lost.stop))
                run.missing[position : position + 1] = [part for part in rest if part]
                self._missing[symbol] -= 1
                if not self._missing[symbol]:
                    del self._missing[symbol]
                return

    def _forget_old_runs(self, runs: dict[str, _Run]) -> None:
        while len(runs) > _RUNS:
            # Its missing candles stay counted until they are republished.
            del runs[next(iter(runs))]
