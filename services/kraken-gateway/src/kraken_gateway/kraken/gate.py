"""Who may try to reach Kraken: everyone while it works; one at a time, with pauses, while it does not.

So an outage costs the same few attempts however many feeds wait for its end, and all of them come back together.
"""

import asyncio
from collections.abc import Mapping

from kraken_gateway.kraken.budget import Backoff

LONGEST_PAUSE = 10.0
"""Seconds between two attempts at a Kraken that does not work, at most; longer only where it has asked for that."""

_FLOORS: Mapping[str, float] = {"too-many-connects": 15.0}


class Gate:
    """Lets attempts through. Whoever was let in says how it ended: `worked`, `failed` or `left`."""

    def __init__(self) -> None:
        self._works = asyncio.Event()
        self._works.set()
        self._stirred = asyncio.Event()
        self._backoff = Backoff()
        self._not_before = float("-inf")
        self._trying: object | None = None

    @property
    def is_open(self) -> bool:
        """Whether Kraken works, as far as anyone has tried."""
        return self._works.is_set()

    async def enter(self, who: object) -> None:
        """Return when `who` may try: at once while Kraken works, else when it is its turn."""
        loop = asyncio.get_running_loop()
        while not self._works.is_set():
            self._stirred.clear()
            wait = self._not_before - loop.time()
            if self._trying is None and wait <= 0:
                self._trying = who
                return
            try:
                async with asyncio.timeout(wait if self._trying is None else None):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    def worked(self, who: object) -> None:
        """Kraken has given `who` what it came for: everyone may come."""
        if not self._works.is_set():
            self._works.set()
            self._backoff.reset()
        self.left(who)

    def failed(self, who: object, reason: str, longest_pause: float = LONGEST_PAUSE) -> None:
        """`who` got nothing, for `reason`: nobody tries again before a pause of at most `longest_pause` (seconds)."""
        self._works.clear()
        floor = _FLOORS.get(reason, 0.0)
        pause = self._backoff.pause(at_least=floor, cap=longest_pause)
        self._not_before = asyncio.get_running_loop().time() + pause
        self.left(who)

    def left(self, who: object) -> None:
        """`who` has given up by itself, which tells nothing about Kraken."""
        if self._trying is who:
            self._trying = None
        self._stirred.set()

    async def pause(self, seconds: float) -> None:
        """Wait `seconds`, or only until a Kraken that did not work does so again."""
        if self._works.is_set():
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._works.wait()
        except TimeoutError:
            return
