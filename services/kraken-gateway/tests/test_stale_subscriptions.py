"""Connections that live and bring nothing of a symbol, on the simulator: noticed, repaired, nothing wrong closed."""

import asyncio
import time

import pytest
from gateway_world import Follower, fault, near_a_minutes_end, truth_of
from prometheus_client import CollectorRegistry

from ingress_common.model import FeedCondition, Source
from ingress_common.settings import load_settings
from ingress_common.timeframes import Timeframe
from kraken_gateway.service import GatewayService
from kraken_gateway.settings import GatewaySettings

pytest.importorskip("kraken_simulator", reason="the simulator is not installed")
from kraken_simulator import Simulator, SimulatorConfig

LIVE = FeedCondition.LIVE
BUSY = "BTC/USD"


@pytest.fixture
async def simulator():
    clock = near_a_minutes_end(45.0)
    config = SimulatorConfig(port=0, control_port=0, symbols=(BUSY, "ETH/USD", "NANO/EUR"), history_weeks=12)
    async with Simulator(config, clock=clock) as running:
        running.now = clock
        yield running


@pytest.fixture
async def gateway(simulator, open_bus):
    settings = load_settings(
        GatewaySettings,
        _env_file=None,
        symbols="*",
        kraken_ws_url=simulator.ws_url,
        kraken_rest_url=simulator.rest_url,
        instance_id="gw",
    )
    service = GatewayService(settings, CollectorRegistry(), open_bus, time.time)
    task = asyncio.create_task(service.run())
    yield service
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def check(service: GatewayService, name: str):
    return next(check for check in service.health().checks if check.name == name)


async def habits_are_known(listener) -> None:
    """Wait until enough rows of the busy symbol have come to tell what is usual."""

    def times() -> list[float]:
        return [tick.at for tick in listener.of("raw") if tick.symbol == BUSY]

    await listener.until(lambda: times() and times()[-1] - times()[0] > 25.0, 60.0)


def first_tick(listener) -> int:
    return next(n for n, (kind, _) in enumerate(listener.received) if kind == "raw")


async def settled_equals_truth(simulator, listener, symbol: str) -> list[int]:
    follower = Follower.of(listener.received)
    minutes = follower.minutes(symbol)
    truth = await truth_of(simulator, symbol, minutes)
    for minute in minutes:
        assert follower.states.get((symbol, minute)) == truth.get(minute), (symbol, minute)
    return minutes


def covered(listener, symbol: str) -> bool:
    """Whether the last state of any feed covers `symbol`."""
    feeds = {state.feed: state for state in listener.of("feed")}
    return any(state.state is LIVE and symbol in state.symbols for state in feeds.values())


async def test_stale_subscription_is_noticed_within_ten_seconds_and_cured_without_touching_the_others(
    simulator, gateway, listener
):
    await habits_are_known(listener)
    end = Timeframe.M1.ceil(simulator.now())
    began = time.monotonic()
    before = len(listener.received)
    await fault(simulator, kind="blind", symbol=BUSY, seconds=600)
    await listener.until(lambda: not check(gateway, "subscriptions").ok, 30.0)
    assert time.monotonic() - began < 10.0
    await listener.until(lambda: not covered(listener, BUSY))
    await listener.until(lambda: covered(listener, BUSY), 30.0)
    await listener.until(lambda: check(gateway, "subscriptions").ok)
    states = [item for kind, item in listener.received[before:] if kind == "feed" and item.feed == "gw-0"]
    assert states
    assert all({"ETH/USD", "NANO/EUR"} <= set(state.symbols) for state in states)
    await listener.until(lambda: [w for w in listener.of("watermark") if w.watermark >= end + 60], 150.0)
    # Whatever was covered of the minute at the moment it could be closed was the truth.
    assert end - 60 in await settled_equals_truth(simulator, listener, BUSY)
    await settled_equals_truth(simulator, listener, "NANO/EUR")


async def test_symbol_that_stays_stale_is_not_covered_served_by_readings_and_comes_back(simulator, gateway, listener):
    await habits_are_known(listener)
    end = Timeframe.M1.ceil(simulator.now())
    # Beyond the minute's end, which is the next one where learning the habits took long.
    await fault(simulator, kind="blind", symbol=BUSY, seconds=end - simulator.now() + 30, new_connections=True)
    await listener.until(lambda: [w for w in listener.of("watermark") if w.watermark >= end], 90.0)
    assert not covered(listener, BUSY)
    assert covered(listener, "ETH/USD")
    await settled_equals_truth(simulator, listener, BUSY)
    await listener.until(lambda: covered(listener, BUSY), 90.0)
    await listener.until(lambda: listener.received[-1][0] == "watermark")
    await settled_equals_truth(simulator, listener, BUSY)
    assert [h for h in listener.of("history") if h.source is Source.REST and h.symbol == BUSY]


async def test_connection_without_updates_is_restarted(simulator, gateway, listener):
    await habits_are_known(listener)
    await fault(simulator, kind="blind", seconds=600)
    before = {state.since for state in listener.of("feed") if state.state is LIVE}
    await listener.until(lambda: any(s.state is LIVE and s.since > max(before) for s in listener.of("feed")), 60.0)
    await listener.until(lambda: covered(listener, BUSY) and covered(listener, "ETH/USD"), 60.0)


async def test_halt_of_trading_makes_no_subscription_stale(simulator, gateway, listener):
    await habits_are_known(listener)
    end = Timeframe.M1.ceil(simulator.now())
    await fault(simulator, kind="post_only", seconds=40)
    await listener.until(lambda: [w for w in listener.of("watermark") if w.watermark >= end], 90.0)
    await listener.until(lambda: all(covered(listener, symbol) for symbol in (BUSY, "ETH/USD", "NANO/EUR")), 30.0)
    assert not [f for f in listener.of("feed") if f.state is FeedCondition.DOWN and f.since > listener.of("raw")[0].at]
    assert check(gateway, "subscriptions").ok
    await settled_equals_truth(simulator, listener, BUSY)


async def test_suspect_that_cannot_be_verified_is_excluded_before_the_minute_ends(simulator, gateway, listener):
    await habits_are_known(listener)
    end = Timeframe.M1.ceil(simulator.now() + 20)
    until_after = end - simulator.now() + 15
    await fault(simulator, kind="rest_down", seconds=until_after)
    await fault(simulator, kind="msg_rate", seconds=until_after)
    await fault(simulator, kind="post_only", seconds=600)
    await listener.until(lambda: not covered(listener, BUSY), 100.0)
    # It was left out before the minute's end was passed.
    left_out = next(
        n
        for n, (kind, item) in enumerate(listener.received)
        if kind == "feed" and item.state is LIVE and n > first_tick(listener) and BUSY not in item.symbols
    )
    passed = [n for n, (kind, item) in enumerate(listener.received) if kind == "watermark" and item.watermark >= end]
    assert not passed or left_out < passed[0]
    await listener.until(lambda: covered(listener, BUSY), 90.0)
    await listener.until(lambda: listener.received[-1][0] == "watermark")
    await settled_equals_truth(simulator, listener, BUSY)
