"""The report of a run, as text and as JSON."""

import statistics
from collections import Counter
from collections.abc import Iterator
from typing import Any

from chaos.judge import Verdict
from chaos.recovery import Recovery
from chaos.run import Done, Limits, Outcome

_SHOWN = 40


def as_lines(outcome: Outcome, limits: Limits) -> Iterator[str]:
    """The report as text."""
    made = [done for done in outcome.done if done.span is not None]
    skipped = Counter((done.fault.kind, done.skipped) for done in outcome.done if done.span is None)
    yield f"faults      {len(made)} on {outcome.symbols} symbols in {outcome.seconds / 60:.1f} minutes"
    for kind, count in sorted(Counter(done.fault.kind for done in made).items()):
        yield f"            {count:4d} {kind}"
    for (kind, why), count in skipped.items():
        yield f"skipped     {count:4d} {kind}: {why}"
    yield from _recovery_lines(outcome, limits)
    yield f"corrected   {len(outcome.corrected)} candles were corrected after they had closed"
    yield from (f"            {line}" for line in outcome.corrected[:_SHOWN])
    yield f"dead letters {sum(outcome.dead_letters.values())}"
    yield from (f"            {count:4d} {why[:300]}" for why, count in list(outcome.dead_letters.items())[:_SHOWN])
    yield f"ended by themselves {outcome.deaths}"
    yield from (f"problem     {problem}" for problem in outcome.problems)
    if (comparison := outcome.comparison) is None:
        yield "nothing was compared"
    else:
        yield from (str(finding) for finding in comparison.findings[:_SHOWN])
        if len(comparison.findings) > _SHOWN:
            yield f"and {len(comparison.findings) - _SHOWN} more"
        counts = ", ".join(f"{comparison.count(verdict)} {verdict}" for verdict in Verdict)
        settled = "" if outcome.settled_in is None else f", all right {outcome.settled_in:.0f} s after the last fault"
        yield f"candles     {comparison.candles} in the store and {comparison.retained} retained: {counts}{settled}"
    yield "passed" if outcome.ok(limits) else "FAILED"


def _recovery_lines(outcome: Outcome, limits: Limits) -> Iterator[str]:
    faults = {done.fault.number: done.fault for done in outcome.done}
    yield "recovery    number kind target: seconds after its end, or after that of the last fault that came into it"
    for recovery in outcome.recoveries:
        fault = faults[recovery.number]
        seconds = "never" if recovery.seconds is None else f"{recovery.seconds:.1f} s"
        late = recovery.seconds is None or recovery.seconds > limits.recovery
        yield (
            f"            {recovery.number:4d} {fault.kind} {fault.target}: {seconds}{' TOO LATE' if late else ''}"
            f"{f' ({recovery.trouble})' if recovery.trouble else ''}"
        )
    if seconds := [recovery.seconds for recovery in outcome.recoveries if recovery.seconds is not None]:
        never = sum(recovery.seconds is None for recovery in outcome.recoveries)
        yield (
            f"recovery    median {statistics.median(seconds):.1f} s, longest {max(seconds):.1f} s, never {never}, "
            f"later than {limits.recovery:.0f} s: {len(outcome.late(limits))}"
        )


def as_json(outcome: Outcome, limits: Limits) -> dict[str, Any]:
    """The report as JSON values."""
    recovery = {entry.number: entry for entry in outcome.recoveries}
    comparison = outcome.comparison
    return {
        "ok": outcome.ok(limits),
        "seconds": round(outcome.seconds, 1),
        "symbols": outcome.symbols,
        "faults": [_fault(done, recovery.get(done.fault.number)) for done in outcome.done],
        "candles": comparison.candles if comparison else 0,
        "retained": comparison.retained if comparison else 0,
        **{str(verdict): comparison.count(verdict) if comparison else None for verdict in Verdict},
        "findings": [str(finding) for finding in comparison.findings] if comparison else [],
        "settled_in": outcome.settled_in,
        "corrected": outcome.corrected,
        "dead_letters": outcome.dead_letters,
        "ended_by_themselves": outcome.deaths,
        "problems": outcome.problems,
        "troubles": [{"at": round(at, 1), "trouble": trouble} for at, trouble in outcome.troubles],
    }


def _fault(done: Done, recovery: Recovery | None) -> dict[str, Any]:
    span, fault = done.span, done.fault
    return {
        "number": fault.number,
        "kind": fault.kind,
        "target": fault.target,
        "script": str(fault),
        "skipped": done.skipped or None,
        "start": round(span.start, 1) if span else None,
        "end": round(span.end, 1) if span else None,
        "recovery_seconds": round(recovery.seconds, 1) if recovery and recovery.seconds is not None else None,
        "trouble": recovery.trouble if recovery else "",
    }
