"""`crypto-ingress demo` as a new user meets it: one command, and candles that are the simulated market's truth.

The simulator's ports are part of the contract and fixed, so there is one demo at a time.
"""

import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

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
