"""The interface between the runner and a form of the system under test."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from chaos.judge import StoredRow
from chaos.kraken import Kraken
from chaos.script import Fault

End = Callable[[], Awaitable[None]]
"""Ends a fault."""


class SkippedError(Exception):
    """This machine cannot make a fault; the text states why."""


class Form(Protocol):
    """The system under test, as an async context manager that removes everything at the end."""

    kraken: Kraken

    async def __aenter__(self) -> Self:
        """Start it and wait until it is healthy."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove it."""
        ...

    def broker_url(self) -> str | None:
        """The current URL of its broker; None if unknown."""
        ...

    async def begin(self, fault: Fault) -> End:
        """Make a fault; returns the function that ends it. SkippedError if this machine cannot make it."""
        ...

    async def newest_closed(self) -> dict[str, int]:
        """The open time of each symbol's newest closed 1m candle in the store; OSError if it does not respond."""
        ...

    async def rows(self, timeframe: str) -> list[StoredRow]:
        """Every row of a timeframe in the store."""
        ...

    async def deaths(self) -> int:
        """How often a process ended by itself."""
        ...

    async def save_logs(self, folder: Path) -> None:
        """Write its logs into `folder`."""
        ...
