"""What the runner asks of that which it torments, in whatever form it runs."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from chaos.judge import Row
from chaos.kraken import Kraken
from chaos.script import Fault

End = Callable[[], Awaitable[None]]
"""Ends a fault; what it cannot undo any more is gone already."""


class SkippedError(Exception):
    """A fault that this machine cannot make; the text says what is lacking."""


class Form(Protocol):
    """The system under torment while it is entered; everything that belongs to it is removed at the end."""

    kraken: Kraken

    async def __aenter__(self) -> Self:
        """Start it, healthy."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove it."""
        ...

    def broker_url(self) -> str | None:
        """Where its broker is now; None if nobody knows."""
        ...

    async def begin(self, fault: Fault) -> End:
        """Make a fault; what comes back ends it. SkippedError if this machine cannot."""
        ...

    async def newest_closed(self) -> dict[str, int]:
        """The open time of each symbol's newest closed 1m candle in the store; OSError if it does not answer."""
        ...

    async def rows(self, timeframe: str) -> list[Row]:
        """Every row of a timeframe in the store."""
        ...

    async def deaths(self) -> int:
        """How often something ended that nobody had killed."""
        ...

    async def save_logs(self, folder: Path) -> None:
        """Leave what it said in `folder`."""
        ...
