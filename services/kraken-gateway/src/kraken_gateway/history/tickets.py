"""Holding a request's acknowledgement until all of its answers are with the broker."""

import asyncio
from collections.abc import Callable

LIMIT = 200
"""Messages held back at most: beyond that they are acknowledged at once, so that the broker goes on delivering."""

HOLD_SECONDS = 30.0
"""How long a message is held back at most. The broker hears of an acknowledgement only once all earlier ones are given
too: a request that waits for hours would use up the window, and nothing else would arrive.
"""


class Ticket:
    """One part of a request is `done`; the message is acknowledged with the last one."""

    def __init__(self, parts: int, release: Callable[[], None]) -> None:
        self._parts = parts
        self._release = release

    def done(self) -> None:
        """One part is answered (or given up)."""
        self._parts -= 1
        if self._parts == 0:
            self._release()


class TicketOffice:
    """Gives out tickets, and lets no more than LIMIT messages wait, none for longer than `hold` seconds."""

    def __init__(self, hold: float = HOLD_SECONDS) -> None:
        self._hold = hold
        self._held = 0

    def issue(self, parts: int, ack: Callable[[], None]) -> Ticket:
        """A ticket for a message with `parts` answers to come (1 or more), acknowledged by `ack`."""
        if self._held >= LIMIT:
            # What is asked for stays known here, in bounded sets; only a crash now would lose it, and then it is asked
            # for again.
            ack()
            return Ticket(parts, lambda: None)
        self._held += 1
        released = False

        def release() -> None:
            nonlocal released
            if released:
                return
            released = True
            timer.cancel()
            self._held -= 1
            ack()

        timer = asyncio.get_running_loop().call_later(self._hold, release)
        return Ticket(parts, release)
