"""A chaos run: the script's faults, consecutive and overlapping, then the comparison with the truth."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from chaos.form import End, Form, SkippedError
from chaos.judge import SECONDS, Finding, StoredRow, Truth, Verdict, fault_of, judge_retained, judge_store
from chaos.recovery import Recovery, Sample, Span, recoveries
from chaos.script import KRAKEN, Fault, Then
from chaos.watch import TOPICS, Watch, retained_candles
from ingress_common.bus import BusError

FRESH_SECONDS = 10.0
"""Seconds after its end by which a minute must be closed in the store."""

_LOOK_SECONDS = 1.5
_CALM_SECONDS = 10.0
_COMPARE_AGAIN_SECONDS = 20.0

WriteLine = Callable[[str], None]
"""Takes lines about the run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits in seconds.

    `start`: until everything is well for the first time. `calm`: maximum wait for recovery before the next fault.
    `settle`: after the last fault, until everything is well and every candle right. `recovery`: maximum recovery time.
    `faults`: no fault begins after it; None for the whole script.
    """

    start: float = 180
    calm: float = 120
    settle: float = 300
    recovery: float = 60
    faults: float | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A fault with its start and end on the run's clock, or the reason why it was skipped."""

    fault: Fault
    span: Span | None
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison with the truth."""

    findings: tuple[Finding, ...]
    candles: int
    retained: int

    def count(self, verdict: Verdict) -> int:
        """The number of findings of a kind."""
        return sum(finding.verdict is verdict for finding in self.findings)


@dataclass(slots=True)
class Outcome:
    """All results of a run."""

    done: list[Done] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    comparison: Comparison | None = None
    corrected: list[str] = field(default_factory=list)
    dead_letters: dict[str, int] = field(default_factory=dict)
    deaths: int = 0
    symbols: int = 0
    seconds: float = 0
    started_in: float = 0
    settled_in: float | None = None
    troubles: list[tuple[float, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def late(self, limits: Limits) -> list[Recovery]:
        """The recoveries beyond the limit."""
        return [r for r in self.recoveries if r.seconds is None or r.seconds > limits.recovery]

    def ok(self, limits: Limits) -> bool:
        """Whether no candle is missing, wrong, duplicate or invented, and every recovery was in time."""
        compared = self.comparison is not None and not self.comparison.findings
        return compared and not self.late(limits) and not self.problems


class Run:
    """One run of a script against a started form."""

    def __init__(self, form: Form, script: Sequence[Fault], limits: Limits, write_line: WriteLine) -> None:
        self._form = form
        self._script = script
        self._limits = limits
        self._write_line = write_line
        self._watch = Watch(form.broker_url)
        self._samples: list[Sample] = []
        self._symbols: list[str] = []
        self._began = time.monotonic()
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """Run it to the end; the outcome."""
        self._symbols = await self._form.kraken.symbols()
        self.outcome.symbols = len(self._symbols)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch.run(), name="chaos.watch")
            looking = tasks.create_task(self._look(), name="chaos.look")
            await self._torment()
            watching.cancel()
            looking.cancel()
        self.outcome.seconds = self._now()
        return self.outcome

    async def _torment(self) -> None:
        if not await self._until_calm(self._limits.start):
            self.outcome.problems.append(f"not well {self._limits.start:.0f} s after the start: {self._trouble()}")
            return
        self.outcome.started_in = self._now()
        since = time.time()
        self._write_line(f"all is well after {self._now():.0f} s; {len(self._symbols)} symbols")
        await self._play()
        await self._form.kraken.end_faults()
        over = self._now()
        await self._settle(since, over)
        spans = [done.span for done in self.outcome.done if done.span is not None]
        self.outcome.recoveries = recoveries(spans, self._samples)
        self.outcome.dead_letters = {str(reason): count for reason, count in self._watch.dead_letters.most_common()}
        self.outcome.deaths = await self._form.deaths()
        self.outcome.troubles = _changes(self._samples)

    # --- the faults

    async def _play(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for fault in self._script:
                if self._limits.faults is not None and self._now() > self._limits.faults:
                    self._write_line(f"time is up: fault {fault.number} and what follows are left out")
                    break
                playing = tasks.create_task(self._one(fault), name=f"chaos.fault-{fault.number}")
                if fault.then is not Then.OVERLAP:
                    await playing
                if fault.then is Then.CALM and not await self._until_calm(self._limits.calm):
                    self._write_line(f"      still not well: {self._trouble()}")
                await asyncio.sleep(fault.pause)

    async def _one(self, fault: Fault) -> None:
        started = self._now()
        self._write_line(f"{started:7.1f} {fault}")
        try:
            lasts, end = await self._begin(fault)
        except SkippedError as skipped:
            self._write_line(f"{self._now():7.1f} {fault.number:4d}  skipped: {skipped}")
            self.outcome.done.append(Done(fault, None, str(skipped)))
            return
        try:
            await asyncio.sleep(lasts)
        finally:
            await end()
        span = Span(fault.number, started, self._now())
        self.outcome.done.append(Done(fault, span))

    async def _begin(self, fault: Fault) -> tuple[float, End]:
        if fault.target != KRAKEN:
            return fault.seconds, await self._form.begin(fault)
        symbol = fault.symbol
        if symbol is not None:
            symbol = self._symbols[int(symbol.removeprefix("#")) % len(self._symbols)]
        lasts = await self._form.kraken.start_fault(fault.kind, fault.seconds, symbol)
        return (lasts if fault.seconds else 0.0), _nothing

    # --- how it is

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _trouble(self) -> str:
        return self._samples[-1].trouble if self._samples else "nothing was seen yet"

    async def _look(self) -> None:
        """Record once a second what is wrong."""
        while True:
            # Compute what is due before the slow requests.
            due = int((time.time() - FRESH_SECONDS) // 60) * 60 - 60
            trouble = self._watch.trouble(self._symbols) or await self._staleness(due)
            now = self._now()
            if not self._samples or bool(trouble) != bool(self._samples[-1].trouble):
                self._write_line(f"{now:7.1f}       {trouble or 'well'}")
            self._samples.append(Sample(now, trouble))
            await asyncio.sleep(_LOOK_SECONDS)

    async def _staleness(self, due: int) -> str:
        try:
            newest = await self._form.newest_closed()
        except OSError as error:
            return f"the store does not respond: {error}"
        behind = [symbol for symbol in self._symbols if newest.get(symbol, 0) < due]
        if not behind:
            return ""
        return f"{len(behind)} symbols have not closed the minute {_clock(due)} in the store, such as {behind[0]}"

    async def _until_calm(self, seconds: float) -> bool:
        """Wait until everything has been well for a while; returns whether that happened within `seconds`."""
        begun = self._now()
        while self._now() < begun + seconds:
            bad = [sample.at for sample in self._samples if sample.trouble]
            well_since = max([begun, *bad])
            if self._samples and not self._samples[-1].trouble and self._samples[-1].at >= well_since + _CALM_SECONDS:
                return True
            await asyncio.sleep(0.5)
        return False

    # --- the comparison

    async def _settle(self, since: float, over: float) -> None:
        """Wait until everything is well and every candle is right, up to the limit."""
        deadline = over + self._limits.settle
        if not await self._until_calm(self._limits.settle):
            self.outcome.problems.append(f"not well {self._limits.settle:.0f} s after the end: {self._trouble()}")
        while True:
            known_until = time.time()
            comparison, truths = await self._compare(since)
            self.outcome.comparison = comparison
            counts = ", ".join(f"{comparison.count(verdict)} {verdict}" for verdict in Verdict)
            self._write_line(f"{self._now():7.1f}       compared {comparison.candles} candles: {counts}")
            if not comparison.findings:
                self.outcome.settled_in = self._now() - over
            if not comparison.findings or self._now() + _COMPARE_AGAIN_SECONDS > deadline:
                break
            await asyncio.sleep(_COMPARE_AGAIN_SECONDS)
        self.outcome.corrected = _corrected(self._watch.closed, truths, known_until)

    async def _compare(self, since: float) -> tuple[Comparison, dict[tuple[str, str], Truth]]:
        findings: list[Finding] = []
        truths: dict[tuple[str, str], Truth] = {}
        candles = 0
        retained_at = time.time()
        retained = await self._retained()
        read_by = time.time()
        for timeframe in SECONDS:
            now = time.time()
            rows: dict[str, list[StoredRow]] = {}
            for row in await self._rows(timeframe):
                rows.setdefault(row.symbol, []).append(row)
            rows_read_by = time.time()
            firsts = [min([int(since), *(row.open_time for row in rows.get(s, ()))]) for s in self._symbols]
            requests = zip(self._symbols, firsts, strict=True)
            found = await asyncio.gather(*(self._form.kraken.truth(s, timeframe, first) for s, first in requests))
            for symbol, truth in zip(self._symbols, found, strict=True):
                truths[symbol, timeframe] = truth
                more, count = judge_store(
                    rows.pop(symbol, []), truth, symbol, timeframe, since=since, now=now, read_by=rows_read_by
                )
                findings += more
                candles += count
                topic = TOPICS.candles(symbol, timeframe)
                findings += judge_retained(
                    retained.get(topic), truth, symbol, timeframe, now=retained_at, read_by=read_by
                )
            findings += (
                Finding(Verdict.INVENTED, "store", symbol, timeframe, of[0].open_time, "there is no such market")
                for symbol, of in rows.items()
            )
        return Comparison(tuple(findings), candles, len(retained)), truths

    async def _retained(self) -> dict[str, StoredRow]:
        url = self._form.broker_url()
        try:
            return await retained_candles(url, self._symbols) if url else {}
        except BusError as error:
            self.outcome.problems.append(f"the retained candles cannot be read: {error}")
            return {}

    async def _rows(self, timeframe: str) -> list[StoredRow]:
        try:
            return await self._form.rows(timeframe)
        except (OSError, httpx.HTTPError) as error:
            self.outcome.problems.append(f"the stored candles of {timeframe} cannot be read: {error}")
            return []


async def _nothing() -> None:
    """The simulator ends its faults itself."""


def _corrected(
    closed: dict[tuple[str, str, int], list[StoredRow]], truths: dict[tuple[str, str], Truth], known_until: float
) -> list[str]:
    """Candles that closed on the bus with other numbers than the truth, which is complete until `known_until`."""
    return [
        f"{symbol} {timeframe} {_clock(row.open_time)}: {fault[0]}: {fault[1]}"
        for (symbol, timeframe, open_time), versions in sorted(closed.items())
        for row in versions
        if open_time + SECONDS[timeframe] <= known_until
        and (truth := truths.get((symbol, timeframe))) is not None
        and open_time > truth.begins
        and (fault := fault_of(row, truth))
    ]


def _changes(samples: Sequence[Sample]) -> list[tuple[float, str]]:
    """The changes between well and not well, as text."""
    changes: list[tuple[float, str]] = []
    for sample in samples:
        if not changes or bool(changes[-1][1]) != bool(sample.trouble):
            changes.append((sample.at, sample.trouble))
    return changes


def _clock(open_time: int) -> str:
    return time.strftime("%H:%M", time.gmtime(open_time))
