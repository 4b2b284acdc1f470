"""Recovery times, from samples during the script. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SHOWS_WITHIN = 75.0
"""Seconds after its end in which a fault's effect may appear: a minute may have to end first, and be late."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The state at a time (seconds of a monotonic clock): what was wrong, empty if nothing."""

    at: float
    trouble: str


@dataclass(frozen=True, slots=True)
class Span:
    """The start and end of a fault."""

    number: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """The recovery from a fault.

    `seconds`: from the end of the last fault before recovery, its own or an overlapping one; None if it never
    recovered. `trouble`: the last thing that was wrong.
    """

    number: int
    seconds: float | None
    trouble: str = ""


def recoveries(spans: Sequence[Span], samples: Sequence[Sample]) -> list[Recovery]:
    """The recovery of each fault; `samples` in order."""
    return [_recovery(span, spans, samples) for span in spans]


def _recovery(span: Span, spans: Sequence[Span], samples: Sequence[Sample]) -> Recovery:
    later = [other.start for other in spans if other.start > span.end]
    limit = min([span.end + SHOWS_WITHIN, *later])
    bad = [i for i, sample in enumerate(samples) if span.end <= sample.at < limit and sample.trouble]
    if not bad:
        return Recovery(span.number, 0.0)
    well = next((sample.at for sample in samples[bad[-1] + 1 :] if not sample.trouble), None)
    if well is None:
        return Recovery(span.number, None, samples[-1].trouble)
    ends = [other.end for other in spans if other.start <= well and other.end <= well]
    return Recovery(span.number, well - max([span.end, *ends]), _last_trouble(samples, well))


def _last_trouble(samples: Sequence[Sample], well: float) -> str:
    return next(before.trouble for before, after in pairwise(samples) if after.at == well)
