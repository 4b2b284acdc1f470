"""When a stack that was just started is ready."""

import asyncio
import json
import time

import httpx

from load.processes import Stack

_LOOK_SECONDS = 0.5


async def ready(stack: Stack, limit: float) -> tuple[float, float]:
    """Seconds from now until every pair is seeded, and until `/health` is 200 after that.

    SystemExit if that takes more than `limit` seconds, or if a service ends.
    """
    began = time.monotonic()
    seeded = 0.0
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
            if not seeded and count >= stack.shape.pairs:
                seeded = time.monotonic() - began
            if seeded and health.status_code == 200:
                return seeded, time.monotonic() - began
    raise SystemExit(f"expected all pairs seeded and /health 200 within {limit:.0f} s")
