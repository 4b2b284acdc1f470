"""Growing pauses between the attempts at something that fails."""

import random
from collections.abc import Callable
from dataclasses import dataclass

NO_JITTER = (1.0, 1.0)
FULL_JITTER = (0.0, 1.0)
"""Each pause is anywhere from nothing to its full length."""

_MOST_DOUBLINGS = 64


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff, in seconds: `first`, doubling up to `longest`. `at_once` attempts have no pause before that.

    `jitter`: the range of the random factor of each pause, so that many clients do not retry at the same moment;
    `uniform` returns numbers from 0 to 1 for it.

    The caller counts its failed attempts and restarts from 0 after a success:

        backoff, attempt = Backoff(0.2, 10.0, FULL_JITTER), 0
        while not await try_it():
            await asyncio.sleep(backoff.pause(attempt))
            attempt += 1
    """

    first: float
    longest: float
    jitter: tuple[float, float] = NO_JITTER
    at_once: int = 0
    uniform: Callable[[], float] = random.random

    def pause(self, attempt: int) -> float:
        """Seconds to wait after the failed attempt number `attempt`, from 0."""
        doublings = attempt - self.at_once
        if doublings < 0:
            return 0.0
        least, most = self.jitter
        factor = least + (most - least) * self.uniform()
        return min(self.longest, self.first * 2.0 ** min(doublings, _MOST_DOUBLINGS)) * factor
