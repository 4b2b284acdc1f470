"""The time, for a writer whose own clock may be wrong."""

import asyncio
from collections.abc import Callable

_REMEMBERED_SECONDS = 10.0


class GatewayTime:
    """Kraken's time by the gateways' watermarks, one a second; a clock that never steps continues it between them.

    Of several watermarks the earliest counts, so a forged one from the future has no effect beside real ones. `clock`
    gives unix seconds, `steady` is monotonic.
    """

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        self._clock = clock
        self._steady = steady
        self._offset: float | None = None  # Kraken's time less our steady clock
        self._received_at = float("-inf")
        self._received = asyncio.Event()

    def received(self, at: float) -> None:
        """Process a watermark stamped `at` (unix seconds)."""
        steady = self._steady()
        offset = at - steady
        if self._offset is None or offset <= self._offset or steady > self._received_at + _REMEMBERED_SECONDS:
            self._offset, self._received_at = offset, steady
        self._received.set()

    async def known(self) -> None:
        """Return once a watermark was received."""
        await self._received.wait()

    def now(self) -> float:
        """Unix seconds, by this machine's clock before the first watermark."""
        return self._clock() if self._offset is None else self._steady() + self._offset

    def latest(self) -> float:
        """The later of `now` and this machine's clock (unix seconds): a candle that begins after it is implausible."""
        return max(self._clock(), self.now())

    def earliest(self) -> float:
        """The earlier of the two: a window that has not ended by it may be open, whichever of them is wrong."""
        return min(self._clock(), self.now())
