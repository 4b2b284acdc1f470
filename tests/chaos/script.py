"""The script of a chaos run: faults, targets, durations and pauses. A pure function of the seed."""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

SERVICES = ("kraken-gateway", "aggregator", "influx-writer", "admin-api")
SCALED = ("kraken-gateway", "aggregator", "influx-writer")
LINKS = (
    ("kraken-gateway", "kraken-simulator"),
    ("kraken-gateway", "broker"),
    ("aggregator", "broker"),
    ("influx-writer", "broker"),
    ("influx-writer", "influxdb"),
    ("admin-api", "broker"),
    ("admin-api", "influxdb"),
)
"""All pairs of containers that communicate."""

ONE_PROCESS = "crypto-ingress"
KRAKEN = "kraken-simulator"
KRAKEN_KINDS = (
    "eof",
    "close_1001",
    "rst",
    "silent",
    "blind",
    "half_open",
    "msg_rate",
    "http_429",
    "maintenance",
    "cancel_only",
    "post_only",
    "late_frame",
    "duplicate",
    "many_rows",
    "revised_snapshot",
    "outage",
    "rest_down",
    "rest_slow",
    "rest_limit",
    "not_json",
    "unknown_message",
    "unlisted",
)
"""Kinds of the simulator's control port, except changes of a pair, which need more than a symbol and seconds."""

ON_ASKING = (
    "rest_revision",
    "close_1008",
    "throttled",
    "status_frames",
    "string_numbers",
    "float_interval",
    "empty_last",
    "asked_key",
    "no_status",
)
"""Kinds that occur only if selected: only a self-check finds the changes of `rest_revision`, and the others are rare
responses of Kraken."""


class Form(StrEnum):
    """The system under test: the demo's containers, or everything in one process."""

    COMPOSE = "compose"
    ONE_PROCESS = "one-process"


class Then(StrEnum):
    """What the next fault waits for: nothing (it overlaps), this one's end, or recovery."""

    OVERLAP = "overlap"
    NEXT = "next"
    CALM = "calm"


class ScriptError(ValueError):
    """A script cannot be built; the message states what was expected."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `seconds`: its duration; `pause`: seconds before the next one, counted from the point in `then`.

    `replica` selects an instance of a scaled target. `direction` of a cut: `both`, or `in` or `out` from the first of
    the two. `offset`: seconds that the clock jumps. `symbol`: the only affected one, `#3` the third, None all.
    `replicas`: the number of instances to scale to.
    """

    number: int
    kind: str
    target: str
    seconds: float
    then: Then
    pause: float
    replica: int = 0
    direction: str = ""
    offset: int = 0
    symbol: str | None = None
    replicas: int = 0

    def __str__(self) -> str:
        """One line of the script."""
        more = [
            f"replica {self.replica}" if self.replica else "",
            self.direction,
            f"{self.offset:+d} s" if self.offset else "",
            self.symbol or "",
            f"to {self.replicas}" if self.replicas else "",
        ]
        text = " ".join(filter(None, (self.kind, self.target, *more)))
        return f"{self.number:4d}  {text}, {self.seconds:.1f} s, then {self.then} {self.pause:.1f} s"


_ON_REPLICAS = frozenset({"kill", "freeze", "stop", "cut", "double"})

Draw = random.Random
"""The source of chance."""


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: str
    target: str
    weight: int = 1


def catalogue(form: Form) -> tuple[tuple[str, str], ...]:
    """All kinds with their targets that a script of this form may contain."""
    return tuple((entry.kind, entry.target) for entry in _entries(form))


def kinds(form: Form) -> tuple[str, ...]:
    """All kinds that can be selected."""
    return tuple(dict.fromkeys([*(kind for kind, _ in catalogue(form)), *ON_ASKING]))


def _entries(form: Form) -> list[_Entry]:
    kraken = [_Entry(kind, KRAKEN) for kind in KRAKEN_KINDS]
    if form is Form.ONE_PROCESS:
        weights = {"kill": 6, "freeze": 4, "stop": 2, "lock": 4, "clock": 3}
        return [*(_Entry(kind, ONE_PROCESS, weight) for kind, weight in weights.items()), *kraken]
    containers = (*SERVICES, "broker", "influxdb")
    return [
        *(_Entry(kind, target) for kind in ("kill", "freeze", "stop") for target in containers),
        *(_Entry("cut", f"{one}~{other}") for one, other in LINKS),
        *(_Entry(kind, target) for kind in ("scale", "double") for target in SCALED),
        *(_Entry("clock", target) for target in SERVICES),
        *kraken,
    ]


def make_script(
    form: Form,
    seed: int,
    faults: int,
    *,
    only: Collection[str] = (),
    target: str | None = None,
    every: tuple[float, float] | None = None,
    without: Collection[str] = (),
) -> tuple[Fault, ...]:
    """`faults` faults, determined by the arguments.

    Each kind and target occurs once before any repeats. `only`: include only these kinds. `target`: only this one (a
    link by its two ends, or by one of them). `without`: exclude these kinds. `every`: seconds between the starts of two
    faults, instead of the script's own choice. ScriptError for unknown kinds or targets.
    """
    chosen = _chosen(form, only, target, without)
    draw = Draw(f"{form}:{seed}")
    script: list[Fault] = []
    bag: list[_Entry] = []
    for number in range(1, faults + 1):
        if not bag:
            bag = [entry for entry in chosen for _ in range(entry.weight)]
            draw.shuffle(bag)
        script.append(_fault(draw, number, bag.pop(), every))
    return tuple(script)


def _chosen(form: Form, only: Collection[str], target: str | None, without: Collection[str]) -> Sequence[_Entry]:
    known = kinds(form)
    for kind in (*only, *without):
        if kind not in known:
            raise ScriptError(f"expected kinds of {', '.join(known)}, got {kind}")
    entries = [*_entries(form), *(_Entry(kind, KRAKEN) for kind in ON_ASKING if kind in only)]
    chosen = [
        entry
        for entry in entries
        if (not only or entry.kind in only)
        and entry.kind not in without
        and (target is None or target == entry.target or target in entry.target.split("~"))
    ]
    if not chosen:
        targets = sorted({entry.target for entry in entries if not only or entry.kind in only})
        raise ScriptError(f"expected a target of {', '.join(targets)}, got {target}")
    return chosen


def _fault(draw: Draw, number: int, entry: _Entry, every: tuple[float, float] | None) -> Fault:
    seconds = round(_LASTS.get(entry.kind, _some_seconds)(draw), 1)
    then = draw.choices(tuple(Then), (0.3, 0.4, 0.3))[0]
    pause = {
        Then.OVERLAP: lambda: draw.uniform(0.1, 0.9) * seconds,
        Then.NEXT: lambda: draw.uniform(0.5, 10),
        # Up to a minute, so that a fault may start at any second of a minute.
        Then.CALM: lambda: draw.uniform(0, 30),
    }[then]()
    if every is not None:
        then, pause = Then.OVERLAP, draw.uniform(*every)
        seconds = min(seconds, round(draw.uniform(0, every[0]), 1))
    details = _DETAILS.get(entry.kind, lambda _: {})(draw)
    if entry.kind in _ON_REPLICAS and entry.target.partition("~")[0] in SCALED:
        details["replica"] = draw.randrange(6)
    if entry.target == KRAKEN and entry.kind not in _OF_ALL:
        details["symbol"] = draw.choice((None, f"#{draw.randrange(1000)}"))
    return Fault(number, entry.kind, entry.target, seconds, then, round(pause, 1), **details)


def _some_seconds(draw: Draw) -> float:
    return draw.uniform(3, draw.choice((10, 30, 60)))


def _back_after_a_pause(draw: Draw) -> float:
    return draw.choice((0.0, draw.uniform(0, 5), draw.uniform(5, 40)))


_LASTS: dict[str, Callable[[Draw], float]] = {
    "kill": _back_after_a_pause,
    "stop": _back_after_a_pause,
    "freeze": lambda draw: draw.choice((draw.uniform(1, 8), draw.uniform(8, 50))),
    "double": lambda draw: draw.uniform(5, 50),
    "scale": lambda _: 0.0,
    "lock": lambda draw: draw.uniform(2, 30),
    "eof": lambda _: 0.0,
    "close_1001": lambda _: 0.0,
    "close_1008": lambda _: 0.0,
    "rst": lambda _: 0.0,
}
_DETAILS: dict[str, Callable[[Draw], dict]] = {
    "cut": lambda draw: {"direction": draw.choice(("both", "both", "in", "out"))},
    "clock": lambda draw: {"offset": draw.choice((-1, 1)) * draw.choice((2, 7, 45, 90, 600, 7200))},
    "scale": lambda draw: {"replicas": draw.randint(1, 3)},
}
_OF_ALL = frozenset({"maintenance", "cancel_only", "post_only", "outage", "msg_rate", "http_429"})
