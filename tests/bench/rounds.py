"""Alternating measurements: A B A B ..."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_AT_LEAST = 3
_AT_MOST = 15
_TIMES = 10


@dataclass(frozen=True)
class Rounds:
    """The cost of each round, ours and theirs (CPU seconds)."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]


def in_turn(ours: Callable[[], float], theirs: Callable[[], float], seconds: float) -> Rounds:
    """Alternate both, three to fifteen times, within about `seconds`; each returns its cost."""
    a: list[float] = []
    b: list[float] = []
    end = time.monotonic() + seconds
    while len(a) < _AT_LEAST or (len(a) < _AT_MOST and time.monotonic() < end):
        a.append(ours())
        b.append(theirs())
    return Rounds(tuple(a), tuple(b))


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU time of `work` in this process, with earlier objects excluded from garbage collection."""
    gc.collect()
    gc.freeze()
    try:
        start = time.process_time()
        work()
        return time.process_time() - start
    finally:
        gc.unfreeze()


def each(call: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    """The CPU time (seconds) of one `call`, over all `inputs`, ten times."""

    def work() -> None:
        for _ in range(_TIMES):
            for value in inputs:
                call(value)

    return cpu_seconds(work) / (_TIMES * len(inputs))
