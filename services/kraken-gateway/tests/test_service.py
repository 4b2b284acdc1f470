"""The whole gateway on the in-memory bus, against the simulator and its truth."""

import asyncio
import time

import pytest
from gateway_world import Follower, fault, near_a_minutes_end, truth_of
from memory_broker import MemoryBus
from prometheus_client import CollectorRegistry

from ingress_common.model import HistoryRequest, InstanceState, SeedRequest, Source, Status
from ingress_common.payloads import decode_status, encode_history_request, encode_seed_request, encode_status
from ingress_common.settings import load_settings
from ingress_common.timeframes import Timeframe
from ingress_common.times import parse_rfc3339
from ingress_common.topics import Topics
from kraken_gateway import health
from kraken_gateway.service import GatewayService
from kraken_gateway.settings import GatewaySettings

pytest.importorskip("kraken_simulator", reason="the simulator is not installed")
from kraken_simulator import Simulator, SimulatorConfig

TOPICS = Topics()


@pytest.fixture
async def simulator():
    clock = near_a_minutes_end(9.0)
    symbols = ("BTC/USD", "ETH/USD", "ADA/USD", "AAPLx/EUR")
    config = SimulatorConfig(port=0, control_port=0, symbols=symbols, history_weeks=80)
    async with Simulator(config, clock=clock) as running:
        running.now = clock
        yield running


@pytest.fixture
async def gateway(simulator, open_bus):
    """Starts a gateway on the simulator."""
    tasks = []

    def start(symbols: str, path: str = "") -> GatewayService:
        settings = load_settings(
            GatewaySettings,
            _env_file=None,
            symbols=symbols,
            kraken_ws_url=simulator.ws_url + path,
            kraken_rest_url=simulator.rest_url,
            instance_id="gw",
        )
        service = GatewayService(settings, CollectorRegistry(), open_bus, time.time)
        tasks.append(asyncio.create_task(service.run()))
        return service

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        assert task.cancelled()


async def test_final_minutes_equal_the_truth_through_faults(simulator, gateway, listener, broker):
    service = gateway("*/USD,NOT/EUR")
    await listener.until(lambda: service.health().ready, 30.0)
    end = Timeframe.M1.ceil(simulator.now())
    async with MemoryBus(broker, client_id="asker") as bus:
        await bus.publish(TOPICS.seed_requests(), encode_seed_request(SeedRequest(("BTC/USD", "ETH/USD", "NO/NE"))))
        for start, length in ((end - 3600, 600), (end - 3000, 600), (end - 90_000, 600)):
            request = HistoryRequest(("ADA/USD",), Timeframe.M1, start, start + length)
            await bus.publish(TOPICS.history_requests(), encode_history_request(request))
        await bus.publish(TOPICS.history_requests(), b"nonsense")
        hostile = HistoryRequest(("BTC/USD",), Timeframe.M1, 0.0, end)
        await bus.publish(TOPICS.history_requests(), encode_history_request(hostile))
        higher = HistoryRequest(("BTC/USD",), Timeframe.H1, end - 40 * 3600, end)
        await bus.publish(TOPICS.history_requests(), encode_history_request(higher))
        for kind in ("duplicate", "many_rows", "not_json", "unknown_message"):
            await fault(simulator, kind=kind, seconds=4)

        def seeded() -> set:
            return {(h.symbol, h.timeframe) for h in listener.of("history") if h.source is Source.SNAPSHOT}

        await listener.until(lambda: {(s, t) for s in ("BTC/USD", "ETH/USD") for t in Timeframe} <= seeded(), 30.0)
        await listener.until(lambda: {h.source for h in listener.of("history")} >= {Source.REST, Source.TRADES}, 30.0)
        await fault(simulator, kind="eof", seconds=1)

        def settled() -> bool:
            follower = Follower.of(listener.received)
            return all(end - 60 in follower.minutes(symbol) for symbol in ("BTC/USD", "ETH/USD", "ADA/USD"))

        # Where the start took long, the minute is the next one. Symbols come back one by one after a lost connection.
        over = max(0.0, end - simulator.now())
        await listener.until(lambda: [w for w in listener.of("watermark") if w.watermark >= end], over + 30.0)
        await listener.until(settled, 30.0)
    follower = Follower.of(listener.received)
    for symbol in ("BTC/USD", "ETH/USD", "ADA/USD"):
        minutes = follower.minutes(symbol)
        truth = await truth_of(simulator, symbol, minutes)
        for minute in minutes:
            assert follower.states.get((symbol, minute)) == truth.get(minute), (symbol, minute)
    assert listener.of("feed")[-1].rejected == {"NOT/EUR": "Currency pair not supported NOT/EUR"}
    assert "nonsense" in [letter.payload for letter in listener.of("dead-letter")]
    assert [
        letter for letter in listener.of("dead-letter") if letter.reason.startswith("expected at most 44640 candles")
    ]
    hours = next(h for h in listener.of("history") if h.timeframe is Timeframe.H1 and h.source is Source.REST)
    assert hours.covers.start == Timeframe.H1.floor(end - 40 * 3600)
    assert hours.covers.end <= simulator.now()
    assert not [c for h in listener.of("history") for c in h.candles[1:] if c.trades == 0]


async def test_gateways_share_the_symbols(simulator, gateway, listener, broker):
    service = gateway("BTC/USD,ETH/USD,ADA/USD")
    await listener.until(lambda: listener.of("feed") and len(listener.of("feed")[-1].symbols) == 3)
    other = Status("kraken-gateway", "other", InstanceState.ONLINE, "1", time.time())
    async with MemoryBus(broker, client_id="other") as bus:
        await bus.publish(TOPICS.status("kraken-gateway", "other"), encode_status(other), retain=True)
        await listener.until(lambda: len(listener.of("feed")[-1].symbols) < 3)
        offline = Status("kraken-gateway", "other", InstanceState.OFFLINE, "1", time.time())
        await bus.publish(TOPICS.status("kraken-gateway", "other"), encode_status(offline), retain=True)
        await listener.until(lambda: len(listener.of("feed")[-1].symbols) == 3)
    assert service.health().ready


async def test_delisted_pair_is_reported_and_followed_when_relisted(simulator, gateway, listener):
    service = gateway("*/USD,ADA/USD")
    await listener.until(lambda: listener.of("feed") and len(listener.of("feed")[-1].symbols) == 3)
    await fault(simulator, kind="unlisted", symbol="ADA/USD", seconds=6)
    await listener.until(lambda: listener.of("feed")[-1].symbols == ("BTC/USD", "ETH/USD"), 5.0)
    assert "delisted" in listener.of("feed")[-1].rejected["ADA/USD"]
    assert all(check.ok for check in service.health().checks)
    await listener.until(lambda: "ADA/USD" in listener.of("feed")[-1].symbols, 12.0)
    assert listener.of("feed")[-1].rejected == {}


async def test_new_pair_is_followed_at_once(simulator, gateway, listener):
    await fault(simulator, kind="unlisted", symbol="ADA/USD", seconds=8)
    gateway("BTC/USD,ADA/USD")
    await listener.until(lambda: listener.of("feed") and "ADA/USD" in listener.of("feed")[-1].rejected)
    await listener.until(lambda: "ADA/USD" in listener.of("feed")[-1].symbols, 12.0)


async def test_status_has_owned_since_and_clock_skew(simulator, gateway, listener):
    gateway("BTC/USD")

    def details() -> dict:
        statuses = [decode_status(payload) for payload in listener.of("status") if payload]
        return dict(statuses[-1].details) if statuses else {}

    await listener.until(lambda: details().get("feeds") == {"gw-0": "live"}, 15.0)
    status = details()
    assert abs(parse_rfc3339(status["owned_since"]["BTC/USD"]) - simulator.now()) < 60.0
    assert abs(status["clock_skew_seconds"] - (time.time() - simulator.now())) < 1.0
    assert (status["suspect"], status["excluded"], status["stale"], status["overloaded"]) == ([], [], [], [])


async def test_wildcard_without_a_match_is_reported(gateway, listener):
    service = gateway("*/NONE")
    await listener.until(lambda: "matches none" in service.health().checks[0].detail)
    assert not service.health().ready


async def test_tokenised_pair_is_followed_on_the_unified_socket_with_history(simulator, gateway, listener, broker):
    service = gateway("*/EUR", "/public")
    await listener.until(lambda: listener.of("feed") and listener.of("feed")[-1].symbols == ("AAPLx/EUR",), 15.0)
    end = Timeframe.M1.floor(simulator.now())
    async with MemoryBus(broker, client_id="asker") as bus:
        for start in (end - 3600, end - 90_000):
            request = HistoryRequest(("AAPLx/EUR",), Timeframe.M1, start, start + 600)
            await bus.publish(TOPICS.history_requests(), encode_history_request(request))
        await listener.until(lambda: {h.source for h in listener.of("history")} >= {Source.REST, Source.TRADES}, 30.0)
    assert all(check.ok for check in service.health().checks)


async def test_gateway_is_not_ready_while_rest_fails_and_history_is_requested(
    simulator, gateway, listener, broker, monkeypatch
):
    monkeypatch.setattr(health, "REST_SECONDS", 0.5)
    service = gateway("BTC/USD")
    await listener.until(lambda: listener.of("feed") and listener.of("feed")[-1].symbols == ("BTC/USD",), 15.0)
    await fault(simulator, kind="rest_down")
    end = Timeframe.M1.floor(simulator.now())
    assert service.health().ready
    async with MemoryBus(broker, client_id="asker") as bus:
        request = HistoryRequest(("BTC/USD",), Timeframe.M1, end - 600, end)
        await bus.publish(TOPICS.history_requests(), encode_history_request(request))
    await listener.until(lambda: not service.health().ready, 10.0)
    assert any(problem.startswith("rest: ") for problem in service.health().problems)
    simulator.exchange.end_faults()
    await listener.until(lambda: service.health().ready, 20.0)


async def test_gateway_reports_that_rest_fails_before_history_is_requested(simulator, gateway, listener):
    service = gateway("BTC/USD")

    def reports_ready() -> bool:
        statuses = [decode_status(payload) for payload in listener.of("status") if payload]
        return bool(statuses and statuses[-1].details.get("ready"))

    await listener.until(reports_ready, 15.0)
    await fault(simulator, kind="rest_down")
    await listener.until(lambda: not reports_ready(), 15.0)
    assert any(problem.startswith("rest: ") for problem in service.health().problems)
    simulator.exchange.end_faults()
    await listener.until(reports_ready, 8.0)


async def test_pair_that_has_never_traded_is_untraded_and_not_carried(simulator, gateway, listener):
    gateway("*/USD")

    def details(name: str) -> object:
        statuses = [decode_status(payload) for payload in listener.of("status") if payload]
        return statuses[-1].details.get(name) if statuses else None

    await listener.until(lambda: listener.of("feed") and len(listener.of("feed")[-1].symbols) == 3)
    await fault(simulator, kind="list", symbol="NEW/USD", trades_per_minute=0.001)
    await listener.until(lambda: details("untraded") == ["NEW/USD"], 40.0)
    assert listener.of("feed")[-1].symbols == ("ADA/USD", "BTC/USD", "ETH/USD")
    # It is delisted without ever having been live.
    await fault(simulator, kind="delist", symbol="NEW/USD")
    await listener.until(lambda: details("rejected") == {"NEW/USD": "delisted in Kraken's list of pairs"}, 20.0)
    await listener.until(lambda: details("untraded") == [], 20.0)
