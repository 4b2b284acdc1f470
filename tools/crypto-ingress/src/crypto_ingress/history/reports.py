"""The report of an import or backfill."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from crypto_ingress.history.checking import FileCheck
from crypto_ingress.history.compare import THE_FILE, THE_STORE, differences
from crypto_ingress.history.files import FileProblem
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339

LISTED = 20
"""Maximum number of differences and problems of each kind in a report."""


@dataclass(slots=True)
class SymbolReport:
    """The results of one symbol's import or backfill."""

    symbol: str
    files: int = 0
    rows: int = 0
    first: int | None = None
    last: int | None = None
    written: dict[Timeframe, int] = field(default_factory=lambda: dict.fromkeys(TIMEFRAMES, 0))
    there: int = 0
    replaced: int = 0
    kept: int = 0
    kept_differences: list[str] = field(default_factory=list)
    contradicted: int = 0
    contradictions: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    reading: str = ""
    """The label of the file that is being imported."""
    checks: list[FileCheck] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    unknown: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    problems: list[FileProblem] = field(default_factory=list)
    problem_count: int = 0

    def note(self, problems: Sequence[FileProblem]) -> None:
        """Count all problems and keep the first ones, those of data that is left out before those of used data."""
        self.problems = sorted([*self.problems, *problems], key=lambda problem: problem.used)[:LISTED]
        self.problem_count += len(problems)

    def keep(self, timeframe: Timeframe, rows: pl.DataFrame) -> None:
        """Count stored candles that stay although the file has other numbers: rows of `compare.beside`."""
        self.kept += rows.height
        self.kept_differences += self._named(timeframe, rows, LISTED - len(self.kept_differences))

    def contradict(self, timeframe: Timeframe, rows: pl.DataFrame) -> None:
        """Count candles of another archive file that this one replaces: rows of `compare.beside`."""
        self.contradicted += rows.height
        self.contradictions += self._named(timeframe, rows, LISTED - len(self.contradictions))

    def count_twice(self, side: str) -> None:
        """Note that a side counts trades twice: THE_FILE that is being imported, or THE_STORE."""
        label = self.reading if side == THE_FILE else side
        if label not in self.twice:
            self.twice.append(label)

    def _named(self, timeframe: Timeframe, rows: pl.DataFrame, limit: int) -> list[str]:
        found = differences(rows, THE_FILE, THE_STORE, limit)
        return [f"{self.reading}: {timeframe.value} {difference}" for difference in found]

    @property
    def odd(self) -> bool:
        """Whether the report contains anything that needs attention."""
        checks = any(check.differing or check.problems or check.twice for check in self.checks)
        return bool(self.problem_count or self.kept or self.contradicted or checks or self.twice)


def report_lines(report: SymbolReport) -> Iterator[str]:
    """The report as lines of text."""
    if report.first is not None and report.last is not None:
        yield (f"{report.symbol}: {report.rows:,} {_origin(report)}, {rfc3339(report.first)} to {rfc3339(report.last)}")
        by_timeframe = ", ".join(
            f"{count:,} of {timeframe.value}" for timeframe, count in report.written.items() if count
        )
        yield f"  written: {by_timeframe or 'nothing'}"
        yield f"  already in the store: {report.there:,}"
    else:
        yield f"{report.symbol}: no {_origin(report)}"
    if report.replaced:
        yield f"  replaced, because an earlier import had other numbers: {report.replaced:,}"
    if report.contradicted:
        yield f"  replaced 1m candles that an earlier file states differently: {report.contradicted:,}"
        yield from (f"    {each}" for each in report.contradictions)
    if report.unknown:
        yield f"  unknown minutes because of broken rows, not infilled: {report.unknown:,}"
    for start, end in report.gaps:
        yield f"  gap between file and store: {rfc3339(start)} to {rfc3339(end)} (fill it: crypto-ingress backfill)"
    for label in report.twice:
        yield (
            f"  {label} counts one trade in every 1,000 twice (1000/999 of the other side's trades and volumes, at the"
            " same prices); the store's candles stay"
        )
    if report.kept:
        yield f"  candles that stay in the store with other numbers: {report.kept:,}"
        yield from (f"    {each}" for each in report.kept_differences)
    for check in report.checks:
        yield from check_lines(check)
    if report.unused:
        yield f"  not used, because there is no timeframe of their length: {', '.join(report.unused)}"
    for problem in report.problems:
        yield f"  {problem}"
    if report.problem_count > len(report.problems):
        yield f"  ... and {report.problem_count - len(report.problems):,} more problems"


def _origin(report: SymbolReport) -> str:
    if not report.files:
        return "new minutes with trades"
    return f"rows of {report.files} file{'s' * (report.files != 1)}"


def check_lines(check: FileCheck) -> Iterator[str]:
    """The comparison with a file of a higher timeframe, as lines of text."""
    if check.twice:
        yield (
            f"  {check.label}: {check.twice} counts one trade in every 1,000 twice (1000/999 of the other side's trades"
            " and volumes, at the same prices)"
        )
    yield f"  {check.label}: {check.compared:,} {check.timeframe.value} candles compared, {check.differing:,} differ"
    for difference in check.differences:
        yield f"    {difference}"
    for problem in sorted(check.problems, key=lambda problem: problem.used)[:LISTED]:
        yield f"  {problem}"
