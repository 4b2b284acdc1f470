"""A pause for a gateway that restarts repeatedly: Kraken still counts the connections of its earlier runs."""

import asyncio
from collections.abc import Callable, Sequence

from ingress_common.bus import Bus, LastWill, Message
from ingress_common.payloads import PayloadError, decode_status
from ingress_common.service_names import GATEWAY
from ingress_common.topics import Topics
from kraken_gateway.kraken.limits import WINDOW

ALLOWED = 10
"""Starts in any WINDOW: each makes up to about 14 connections."""

DETAIL = "recent_starts"
"""The detail of the status, and of its last will, that outlives the process: its latest starts (unix seconds)."""

_RETAINED_SECONDS = 0.5


async def earlier_starts(
    open_bus: Callable[[str, LastWill | None], Bus], topics: Topics, instance: str, now: float
) -> tuple[float, ...]:
    """The starts of `instance` in the WINDOW before `now` (unix seconds), oldest first, from its retained status.

    A start in the future (the clock was set back) counts as now.
    """
    async with open_bus("starts", None) as bus:
        await bus.subscribe(topics.status(GATEWAY, instance))
        try:
            async with asyncio.timeout(_RETAINED_SECONDS):
                async for event in bus.events():
                    if isinstance(event, Message):
                        event.ack()
                        return _recent(event.payload, now)
        except TimeoutError:
            pass
    return ()


def pause_before(starts: Sequence[float], now: float) -> float:
    """Seconds to wait at `now` before the next start, after those in `starts`."""
    return max(0.0, starts[-ALLOWED] + WINDOW - now) if len(starts) >= ALLOWED else 0.0


def _recent(payload: bytes, now: float) -> tuple[float, ...]:
    try:
        starts = decode_status(payload).details.get(DETAIL, [])
    except PayloadError:
        return ()
    if not isinstance(starts, list):
        return ()
    known = (min(float(at), now) for at in starts if isinstance(at, int | float) and not isinstance(at, bool))
    return tuple(sorted(at for at in known if at > now - WINDOW)[-2 * ALLOWED :])
