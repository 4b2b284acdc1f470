"""What was received from the bus and is not yet acknowledged."""

from collections.abc import Awaitable
from dataclasses import dataclass, field

from influx_writer.intake import PendingRow
from ingress_common.bus import Message


@dataclass(slots=True)
class Batch:
    """Rows to write together, and what follows once they are stored.

    `dead_letters`: unusable messages, each with the delivery of its dead letter. `marks`: the writer's own messages
    that came after the rows (`marks`). `republished`: symbol and name of the republish requests that are done with
    these rows.
    """

    candles: list[PendingRow] = field(default_factory=list)
    ticks: list[PendingRow] = field(default_factory=list)
    dead_letters: list[tuple[Message, Awaitable[None]]] = field(default_factory=list)
    marks: list[tuple[Message, int]] = field(default_factory=list)
    republished: list[tuple[str, str]] = field(default_factory=list)

    def extend(self, later: "Batch") -> None:
        """Add all of `later`."""
        self.candles += later.candles
        self.ticks += later.ticks
        self.dead_letters += later.dead_letters
        self.marks += later.marks
        self.republished += later.republished

    def __len__(self) -> int:
        return len(self.candles) + len(self.ticks) + len(self.dead_letters) + len(self.marks)
