"""The report of an import or backfill."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from crypto_ingress.history.checking import FileCheck
from crypto_ingress.history.compare import CandleDifference
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
    kept_differences: list[tuple[Timeframe, CandleDifference]] = field(default_factory=list)
    twice: str | None = None
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

    @property
    def odd(self) -> bool:
        """Whether the report contains anything that needs attention."""
        checks = any(check.differing or check.problems or check.twice for check in self.checks)
        return bool(self.problem_count or self.kept or checks or self.twice)


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
    if report.unknown:
        yield f"  unknown minutes because of broken rows, not infilled: {report.unknown:,}"
    for start, end in report.gaps:
        yield f"  gap between file and store: {rfc3339(start)} to {rfc3339(end)} (fill it: crypto-ingress backfill)"
    if report.twice:
        yield (
            f"  {report.twice} counts one trade in every 1,000 twice (1000/999 of the other side's trades and volumes,"
            " at the same prices); the store's candles stay"
        )
    if report.kept:
        yield f"  candles that stay in the store with other numbers, from live data or REST: {report.kept:,}"
        for timeframe, difference in report.kept_differences:
            yield f"    {timeframe.value} {difference}"
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
