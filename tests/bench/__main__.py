"""`make bench`: all figures, or those whose names begin with an argument."""

import sys
from pathlib import Path

from bench import backlog, bus, codec, core_growth, core_seeding, core_streaming, history, tasks, whole_path
from bench.figure import Group, Result, UnavailableError, Verdict
from bench.machine import describe
from bench.report import line, page, rewrite
from ingress_common.logs import configure_logging

_PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
_GROUPS = (
    *core_streaming.GROUPS,
    *core_seeding.GROUPS,
    *core_growth.GROUPS,
    *codec.GROUPS,
    *bus.GROUPS,
    *backlog.GROUPS,
    *tasks.GROUPS,
    *whole_path.GROUPS,
    *history.GROUPS,
)


def main(wanted: list[str]) -> int:
    """Measure and print; 1 if a figure falls short or fails. Only a run of all figures rewrites the page."""
    configure_logging("warning", "console")
    groups = [group for group in _GROUPS if not wanted or _is_wanted(group, wanted)]
    if not groups:
        names = ", ".join(definition.name for group in _GROUPS for definition in group.figures)
        print(f"expected the beginning of a figure's name, got {' '.join(wanted)}: there are {names}", file=sys.stderr)
        return 2
    results = []
    for group in groups:
        for result in _results(group):
            print(line(result), flush=True)
            results.append(result)
    if not wanted:
        rewrite(_PAGE, page(results, describe()))
    return int(any(result.verdict in (Verdict.SHORT, Verdict.FAILED) for result in results))


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
