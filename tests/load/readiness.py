"""When a stack that was just started is ready, and when it is well again after a part was killed."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from load.processes import Stack

_LOOK_SECONDS = 0.5
_STEADY_SECONDS = 10.0


@dataclass
class Ready:
    """Seconds from the start until every pair was seeded, and until `/health` was 200 after that. `red`: seconds in
    between for which each check was red.
    """

    seeded: float = 0.0
    green: float = 0.0
    red: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        since = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.red.most_common())
        return f"all pairs seeded after {self.seeded:.0f} s; /health 200 after {self.green:.0f} s" + (
            f"; red in between: {since}" if since else ""
        )


async def ready(stack: Stack, limit: float) -> Ready:
    """Wait until every pair is seeded and `/health` is 200.

    SystemExit if that takes more than `limit` seconds, or if a service ends.
    """
    began = last = time.monotonic()
    seen = Ready()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{stack.admin_port}", timeout=10) as admin:
        while time.monotonic() - began <= limit:
            await asyncio.sleep(_LOOK_SECONDS)
            for part in stack.services:
                if part.has_ended():
                    raise SystemExit(f"expected {part.name} to go on, it has ended: see its log")
            try:
                health = await admin.get("/health")
                report = health.json()
            except (httpx.HTTPError, json.JSONDecodeError):
                continue
            count = sum(
                instance["details"].get("initialized", 0)
                for instance in report.get("instances", ())
                if instance["service"] == "aggregator" and instance["online"]
            )
            now = time.monotonic()
            if seen.seeded:
                red = (check["name"] for check in report.get("checks", ()) if not check["ok"])
                seen.red.update(dict.fromkeys(red, now - last))
            elif count >= stack.shape.pairs:
                seen.seeded = now - began
            last = now
            if seen.seeded and health.status_code == 200:
                seen.green = now - began
                return seen
    raise SystemExit(f"expected all pairs seeded and /health 200 within {limit:.0f} s, got: {seen}")


@dataclass
class Recovery:
    """Seconds until `/health` was 200 and stayed so for some seconds; infinity if it did not. `red`: seconds for which
    each check was red.
    """

    seconds: float = float("inf")
    red: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        since = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.red.most_common())
        return f"/health 200 for good after {self.seconds:.0f} s" + (f"; red: {since}" if since else "")


async def recovery(stack: Stack, limit: float) -> Recovery:
    """Follow `/health` until it is 200 for good, up to `limit` seconds."""
    began = last = last_red = time.monotonic()
    seen = Recovery()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{stack.admin_port}", timeout=10) as admin:
        while time.monotonic() - began <= limit:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                health = await admin.get("/health")
                red = [check["name"] for check in health.json()["checks"] if not check["ok"]]
            except (httpx.HTTPError, json.JSONDecodeError, KeyError):
                red = ["no answer"]
            now = time.monotonic()
            seen.red.update(dict.fromkeys(red, now - last))
            last = now
            if red:
                last_red = now
            elif now - last_red > _STEADY_SECONDS:
                seen.seconds = last_red - began
                return seen
    return seen
