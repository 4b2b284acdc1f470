"""`crypto-ingress demo` as a new user meets it: one command, and candles that are the simulated market's truth.

The simulator's ports are part of the contract and fixed, so there is one demo at a time.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from command import kill_broker_of
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339
from running_demo import Demo, disagreement, running_demo

pytestmark = pytest.mark.timeout(420)


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Demo]:
    async with running_demo(tmp_path) as demo:
        yield demo


async def test_demo_serves_the_truth_in_all_timeframes_through_an_outage_and_stops_on_ctrl_c(demo):
    async def all_timeframes() -> str | None:
        missing = [t.value for t in TIMEFRAMES if not await demo.candles("BTC/USD", t)]
        return f"no candles of {', '.join(missing)}" if missing else None

    await demo.until(all_timeframes, 60)
    await demo.until_health(200, 60)
    symbols = await demo.symbols()
    assert len(symbols) == 8

    await demo.fault("outage", 20)
    await demo.until_health(503, 60)
    outage_over = time.time() + 20
    await demo.until_health(200, 120)

    async def minute_after_the_outage_is_there_and_all_is_true() -> str | None:
        newest = [candle for candle in await demo.candles("BTC/USD", Timeframe.M1) if candle["closed"]][-1]
        if parse_rfc3339(newest["open_time"]) < outage_over:
            return "no minute after the outage has closed"
        for symbol in symbols:
            for timeframe in TIMEFRAMES:
                if complaint := await disagreement(demo, symbol, timeframe):
                    return complaint
        return None

    await demo.until(minute_after_the_outage_is_there_and_all_is_true, 180)

    demo.running.process.send_signal(signal.SIGINT)
    assert await demo.running.ended(30) == 0, demo.running.output()
    said = demo.running.output()
    assert "stopped" in said
    assert "Traceback" not in said


async def test_killed_broker_is_restarted_and_all_is_green_again_and_one_that_always_ends_ends_the_command(demo):
    process = demo.running.process
    await demo.until_health(200, 90)
    kill_broker_of(process.pid)
    await demo.until_health(503, 60)
    await demo.until_health(200, 60)
    assert "broker.restarted" in demo.running.log.read_text()

    async def minute_of_after_the_restart_closes() -> str | None:
        closed = [c for c in await demo.candles("BTC/USD", Timeframe.M1) if c["closed"]]
        late = [c for c in closed if parse_rfc3339(c["open_time"]) > restarted]
        return None if late else "no minute after the restart has closed"

    restarted = time.time()
    await demo.until(minute_of_after_the_restart_closes, 180)

    deadline = time.monotonic() + 90
    while process.returncode is None and time.monotonic() < deadline:
        kill_broker_of(process.pid)
        await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=0.1)
    assert await demo.running.ended(1) == 1
    said = demo.running.output()
    assert said.splitlines()[-1].startswith("crypto-ingress: the embedded broker on 127.0.0.1:")
    assert "ended 5 times in a row" in said
    assert "Traceback" not in said
