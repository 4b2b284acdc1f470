"""schemathesis over the OpenAPI description, against the running service."""

import asyncio
import os
import re
import sys

from ingress_common.timeframes import Timeframe

CALLS = int(os.environ.get("API_CALLS", "250"))
"""Calls that are made at least; 5,000 take five minutes."""

EXAMPLES = 200
"""Calls made up for each operation in a round, beside those that follow from the description."""

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "missing_required_header",
    "ignored_auth",
)


async def test_every_response_is_documented(world, candle, tmp_path):
    await world.store(*[candle(n) for n in range(-20, 0)], candle(-1, timeframe=Timeframe.M5))
    async with world.running():
        await world.healthy()
        await world.candle(candle(0, closed=False))
        await world.until(lambda: world.service.port)
        await schemathesis(world.service.port, tmp_path, CHECKS, "--exclude-path=/stream")


async def test_stream_responds_as_documented(world, candle, tmp_path):
    # None is allowed, because it would not end; its parameters are looked at all the same.
    async with world.running(max_streams=0):
        await world.candle(candle(0, closed=False))
        await world.until(lambda: world.service.port)
        await schemathesis(world.service.port, tmp_path, CHECKS[1:], "--include-path=/stream")


async def schemathesis(port, folder, checks, *options):
    """Run it with one seed after the other until there were enough calls; fails with its output."""
    calls = seed = 0
    while calls < CALLS:
        seed += 1
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            f"http://127.0.0.1:{port}/openapi.json",
            f"--checks={','.join(checks)}",
            f"--max-examples={min(EXAMPLES, CALLS)}",
            "--phases=examples,coverage,fuzzing",
            "--generation-database=none",
            "--header=Authorization: Bearer s3cret-token",
            f"--seed={seed}",
            "--request-timeout=20",
            "--no-color",
            *options,
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output[-8000:]
        made = re.search(r"(\d+) generated", output)
        assert made is not None, output
        calls += int(made[1])
