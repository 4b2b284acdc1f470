"""Waiting for a condition, with a deadline."""

import asyncio
from collections.abc import Callable
from typing import Any


async def until(
    condition: Callable[[], Any], seconds: float = 60.0, what: Callable[[], Any] = str, every: float = 0.05
) -> None:
    """Wait until `condition` holds, polling `every` few seconds; AssertionError with the result of `what` after
    `seconds`.

    Both may be coroutine functions.
    """
    try:
        async with asyncio.timeout(seconds):
            while not await _outcome(condition):
                await asyncio.sleep(every)
    except TimeoutError:
        raise AssertionError(f"expected it within {seconds:.0f} s: {await _outcome(what)}") from None


async def _outcome(call: Callable[[], Any]) -> Any:
    outcome = call()
    return await outcome if asyncio.iscoroutine(outcome) else outcome
