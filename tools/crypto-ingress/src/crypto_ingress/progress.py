"""Progress of long work on standard error: a bar in a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 5.0

Report = Callable[[float, float], None]
"""Told what is done and how much there is."""


@contextmanager
def progress_of(label: str) -> Iterator[Report]:
    """Shows how far `label` is while it is entered."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(label)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(label: str) -> Report:
    due = time.monotonic() + _LINE_SECONDS

    def report(done: float, total: float) -> None:
        nonlocal due
        if total and time.monotonic() >= due:
            due = time.monotonic() + _LINE_SECONDS
            sys.stderr.write(f"{label}: {done / total:.0%}\n")
            sys.stderr.flush()

    return report
