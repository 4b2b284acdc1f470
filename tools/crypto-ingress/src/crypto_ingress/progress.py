"""Progress of long work on standard error: a bar in a terminal, otherwise a line every 5 s."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 5.0

ProgressReport = Callable[[float, float], None]
"""Takes the amount done and the total, in any unit: bytes, candles."""


@contextmanager
def progress_of(label: str) -> Iterator[ProgressReport]:
    """Show the progress of `label` inside the context."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(label)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(label: str) -> ProgressReport:
    began = time.monotonic()
    due = began + _LINE_SECONDS

    def report(done: float, total: float) -> None:
        nonlocal due
        now = time.monotonic()
        if total and now >= due:
            due = now + _LINE_SECONDS
            left = (now - began) * (total - done) / done if done else float("inf")
            sys.stderr.write(f"{label}: {done / total:.0%}, {_rate(done / (now - began))}, {_time_left(left)}\n")
            sys.stderr.flush()

    return report


def _rate(a_second: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if a_second >= size:
            return f"{a_second / size:.1f} {unit}/s"
    return f"{a_second:.0f}/s"


def _time_left(seconds: float) -> str:
    if seconds == float("inf"):
        return "just begun"
    minutes, seconds = divmod(round(max(seconds, 0)), 60)
    return f"{minutes} min {seconds} s left" if minutes else f"{seconds} s left"
