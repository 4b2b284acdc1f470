"""`make bench`: all figures, or those whose names begin with an argument."""

import sys
from pathlib import Path

from bench import backlog, bus, codec, core_growth, core_seeding, core_streaming, gateway, history, tasks, whole_path
from bench.figure import Group, Result, UnavailableError, Verdict
from bench.machine import describe
from bench.report import line, page, rewrite
from ingress_common.logs import configure_logging

_PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
_FIGURES = (
    *core_streaming.GROUPS,
    *core_seeding.GROUPS,
    *core_growth.GROUPS,
    *codec.GROUPS,
    *bus.GROUPS,
    *gateway.GROUPS,
    *backlog.GROUPS,
    *tasks.GROUPS,
    *whole_path.GROUPS,
)
_PARTS = {"measured": _FIGURES, "history": history.GROUPS}
"""The parts of the page, by the names in their markers."""


def main(wanted: list[str]) -> int:
    """Measure and print; 1 if a figure falls short or fails. A run of a whole part of the page rewrites it."""
    configure_logging("warning", "console")
    everything = [group for groups in _PARTS.values() for group in groups]
    if wanted and not any(_is_wanted(group, wanted) for group in everything):
        names = ", ".join(definition.name for group in everything for definition in group.figures)
        print(f"expected the beginning of a figure's name, got {' '.join(wanted)}: there are {names}", file=sys.stderr)
        return 2
    verdicts: list[Verdict] = []
    for part, groups in _PARTS.items():
        chosen = [group for group in groups if not wanted or _is_wanted(group, wanted)]
        results = []
        for group in chosen:
            for result in _results(group):
                print(line(result), flush=True)
                results.append(result)
        if len(chosen) == len(groups):
            rewrite(_PAGE, part, page(results, describe()))
        verdicts += [result.verdict for result in results]
    return int(any(verdict in (Verdict.SHORT, Verdict.FAILED) for verdict in verdicts))


def _is_wanted(group: Group, wanted: list[str]) -> bool:
    return any(definition.name.startswith(start) for definition in group.figures for start in wanted)


def _results(group: Group) -> list[Result]:
    try:
        outcomes = group.measure()
    except (UnavailableError, AssertionError) as reason:
        return [Result(definition, reason) for definition in group.figures]
    return [Result(definition, outcomes[definition.name]) for definition in group.figures]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
