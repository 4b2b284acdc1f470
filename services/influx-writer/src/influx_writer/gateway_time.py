"""The time, for a writer whose own clock may be wrong."""

import asyncio
from collections.abc import Callable

_REMEMBERED_SECONDS = 10.0


class GatewayTime:
    """The later of this machine's clock and the gateways', which stamp a watermark a second in Kraken's time.

    Of several watermarks the earliest counts, so a forged one from the future has no effect beside real ones.
    `clock` gives unix seconds, `steady` is monotonic.
    """

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        self._clock = clock
        self._steady = steady
        self._behind = 0.0
        self._received_at: float | None = None
        self._received = asyncio.Event()

    def received(self, at: float) -> None:
        """A watermark stamped `at` (unix seconds) was received."""
        behind, now = at - self._clock(), self._steady()
        if self._received_at is None or behind <= self._behind or now > self._received_at + _REMEMBERED_SECONDS:
            self._behind, self._received_at = behind, now
        self._received.set()

    async def known(self) -> None:
        """Return once a watermark was received."""
        await self._received.wait()

    def now(self) -> float:
        """Unix seconds."""
        return self._clock() + max(0.0, self._behind)
