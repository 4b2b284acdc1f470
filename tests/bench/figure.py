"""A figure: meaning, target, measurement and verdict."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class UnavailableError(Exception):
    """A figure's requirement is not installed. The text names it and how to install it."""


class Verdict(StrEnum):
    """The verdict on a figure."""

    OK = "ok"
    SHORT = "short"
    SHOWN = "shown"
    """Measured, without a target."""
    SKIPPED = "skipped"
    FAILED = "failed"
    """Not measured, because a run failed."""


@dataclass(frozen=True)
class Target:
    """The limit of the median ratio."""

    limit: float
    at_most: bool

    def holds(self, ratio: float) -> bool:
        return ratio <= self.limit if self.at_most else ratio >= self.limit

    def __str__(self) -> str:
        return f"at {'most' if self.at_most else 'least'} {self.limit:g}"


def at_most(limit: float) -> Target:
    """The ratio, of costs, is not to be larger."""
    return Target(limit, at_most=True)


def at_least(limit: float) -> Target:
    """The ratio, of rates, is not to be smaller."""
    return Target(limit, at_most=False)


@dataclass(frozen=True)
class Definition:
    """A figure before its measurement. `meaning`: a sentence that states what is divided by what."""

    name: str
    meaning: str
    target: Target | None = None


@dataclass(frozen=True)
class Measurement:
    """One ratio per round, and a note with the absolute figures."""

    ratios: tuple[float, ...]
    note: str

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest ratio of the rounds."""
        return min(self.ratios), max(self.ratios)


Outcome = Measurement | UnavailableError | AssertionError


def paired(ours: Sequence[float], theirs: Sequence[float], note: str) -> Measurement:
    """Our cost divided by theirs, round by round, because a slow round slows both."""
    return Measurement(tuple(a / b for a, b in zip(ours, theirs, strict=True)), note)


@dataclass(frozen=True)
class Group:
    """Figures that one run measures.

    `measure` returns an outcome by name, or raises for all of them: UnavailableError, or AssertionError for an
    unexpected result.
    """

    figures: tuple[Definition, ...]
    measure: Callable[[], Mapping[str, Outcome]]


@dataclass(frozen=True)
class Result:
    """A figure and its outcome."""

    definition: Definition
    outcome: Outcome

    @property
    def verdict(self) -> Verdict:
        if isinstance(self.outcome, UnavailableError):
            return Verdict.SKIPPED
        if isinstance(self.outcome, AssertionError):
            return Verdict.FAILED
        if self.definition.target is None:
            return Verdict.SHOWN
        return Verdict.OK if self.definition.target.holds(self.outcome.median) else Verdict.SHORT
