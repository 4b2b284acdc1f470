"""The printed lines, and the generated part of docs/performance.md."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill

from bench.figure import Definition, Measurement, Result

BEGIN = "<!-- {}: begin -->"
END = "<!-- {}: end -->"


def line(result: Result) -> str:
    """One figure: `name: ratio, spread, target, verdict`, and the absolute figures behind it."""
    name = result.definition.name
    if not isinstance(result.outcome, Measurement):
        return f"{name}: {result.verdict}, {result.outcome}"
    ratio, spread, target = _numbers(result.definition, result.outcome)
    return f"{name}: {ratio}, {spread}, {target}, {result.verdict} ({result.outcome.note})"


def page(results: Sequence[Result], machine: Mapping[str, str]) -> str:
    """The generated part: the table of figures, what each means, versions and machine."""
    rows = [
        "| figure | ratio | spread | target | verdict | absolute |",
        "|---|---|---|---|---|---|",
        *(_row(result) for result in results),
    ]
    meanings = [
        fill(f"- **{result.definition.name}**: {result.definition.meaning}", 100, subsequent_indent="  ")
        for result in results
    ]
    facts = [f"- {name}: {value}" for name, value in machine.items()]
    return "\n\n".join("\n".join(part) for part in (rows, meanings, facts))


def rewrite(path: Path, part: str, generated: str) -> None:
    """Put `generated` between the markers of a part of the page at `path`; ValueError if it has none."""
    text, begin, end = path.read_text(), BEGIN.format(part), END.format(part)
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"expected {begin} and {end} in {path}")
    path.write_text(f"{before}{begin}\n\n{generated}\n\n{end}{after}")


def _row(result: Result) -> str:
    name = result.definition.name
    if not isinstance(result.outcome, Measurement):
        return _cells((name, "", "", _target(result.definition), result.verdict, str(result.outcome)))
    return _cells((name, *_numbers(result.definition, result.outcome), result.verdict, result.outcome.note))


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _numbers(definition: Definition, measurement: Measurement) -> tuple[str, str, str]:
    low, high = measurement.spread
    return f"{measurement.median:.2f}", f"{low:.2f} to {high:.2f}", _target(definition)


def _target(definition: Definition) -> str:
    return str(definition.target or "no target")
