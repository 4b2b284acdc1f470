"""Connections are spared: seeds from REST, attempts that outlive the process, and a word about it in health."""

import asyncio
import time
from decimal import Decimal

import httpx
import pytest
from gateway_world import fault
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from ingress_common.bus.memory import MemoryBus
from ingress_common.model import SeedRequest, Source
from ingress_common.payloads import encode_seed_request
from ingress_common.settings import load_settings
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from kraken_gateway.history.answers import LATEST_ROWS, quiet_answer
from kraken_gateway.kraken.attempts import MOST, BusAttempts, FileAttempts, decode, encode
from kraken_gateway.kraken.budget import LIMIT, WINDOW, ConnectionBudget, Thrift, Urgency
from kraken_gateway.kraken.rest import Trade
from kraken_gateway.service import GatewayService
from kraken_gateway.settings import GatewaySettings

pytest.importorskip("kraken_simulator", reason="the simulator is not installed")
from kraken_simulator import Simulator, SimulatorConfig

TOPICS = Topics()
SYMBOLS = ("BTC/USD", "ETH/USD", "ADA/USD")
KRAKENS_LIMIT = 20
THRIFT = Thrift(limit=18)


# --- what is remembered ---


@given(st.binary(max_size=200))
def test_anything_may_stand_where_attempts_are_remembered(payload):
    assert len(decode(payload, "a test")) <= MOST


@pytest.mark.parametrize(
    "payload",
    [b"", b"nonsense", b"[]", b'{"attempts":7}', b'{"attempts":[true,"1",null,NaN,1e999]}', b'{"attempts":{"1":2}}'],
)
def test_what_is_no_list_of_times_is_no_attempts(payload):
    assert decode(payload, "a test") == ()


def test_only_the_newest_attempts_are_written_down():
    assert decode(encode(range(1000)), "a test") == tuple(float(at) for at in range(1000 - MOST, 1000))


async def test_file_is_shared_by_all_that_call_the_same_kraken(tmp_path):
    await FileAttempts("wss://a", tmp_path).save([1.0, 2.0])
    assert await FileAttempts("wss://a", tmp_path).load() == (1.0, 2.0)
    assert await FileAttempts("wss://b", tmp_path).load() == ()
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"\xff" * 100_000)
    assert await FileAttempts("wss://a", tmp_path).load() == ()


async def test_file_that_cannot_be_written_stops_nobody(tmp_path):
    memory = FileAttempts("wss://a", tmp_path / "absent")
    await memory.save([1.0])
    assert await memory.load() == ()


async def test_broker_remembers_attempts_for_the_next_life(broker, open_bus):
    for attempts in ([], [1.0], [1.0, 2.5]):
        async with BusAttempts(open_bus, TOPICS, "gw") as memory:
            assert list(await memory.load()) == attempts[:-1]
            await memory.save(attempts)
    assert broker.retained == {"ingress/status/kraken-gateway/gw/attempts": b'{"attempts":[1.0,2.5]}'}


@given(st.lists(st.floats(-1e6, 1e6), max_size=300))
def test_attempts_of_an_earlier_life_count_until_ten_minutes_after_they_were_made(ages):
    now = 5.0
    budget = ConnectionBudget(lambda: now)
    budget.restore(ages)
    assert budget.used == sum(age < WINDOW for age in ages)
    assert all(0.0 <= age < WINDOW for age in budget.ages())
    assert (budget.wait(Urgency.LIVE) > 0) == (budget.used >= LIMIT)
    now += WINDOW
    assert budget.used == 0


# --- the service on a Kraken that counts ---


@pytest.fixture
async def simulator():
    config = SimulatorConfig(port=0, control_port=0, symbols=SYMBOLS, history_weeks=12, connection_budget=KRAKENS_LIMIT)
    async with Simulator(config) as running:
        yield running


def service_on(simulator, open_bus, thrift: Thrift = THRIFT) -> GatewayService:
    settings = load_settings(
        GatewaySettings,
        _env_file=None,
        symbols="*",
        kraken_ws_url=simulator.ws_url,
        kraken_rest_url=simulator.rest_url,
        instance_id="gw",
    )
    return GatewayService(settings, CollectorRegistry(), open_bus, time.time, thrift=thrift)


async def stats(simulator) -> dict:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{simulator.control_url}/stats")).json()


async def stopped(task: asyncio.Task) -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def connections(service: GatewayService):
    return next(check for check in service.health().checks if check.name == "connections")


async def test_seeds_asked_for_again_and_again_are_all_answered_and_kraken_refuses_nothing(
    simulator, open_bus, ears, broker
):
    service = service_on(simulator, open_bus)
    task = asyncio.create_task(service.run())
    await ears.until(lambda: service.health().ready)
    sources = set()
    wanted = {(symbol, timeframe) for symbol in SYMBOLS for timeframe in Timeframe}
    async with MemoryBus(broker, client_id="asker") as bus:
        for _ in range(5):
            asked = len(ears.heard)

            def answers(asked: int = asked) -> list:
                return [item for kind, item in ears.heard[asked:] if kind == "history"]

            for symbol in SYMBOLS:
                await bus.publish(TOPICS.seed_requests(), encode_seed_request(SeedRequest((symbol,))))
            await ears.until(lambda: wanted <= {(h.symbol, h.timeframe) for h in answers()}, 40.0)
            sources |= {history.source for history in answers()}
    found = await stats(simulator)
    assert found["connections_refused"] == 0
    assert found["connection_attempts_in_window"] <= THRIFT.limit
    assert sources == {Source.SNAPSHOT, Source.REST}
    for history in ears.of("history"):
        assert history.covers.end > history.timeframe.floor(time.time()) - history.timeframe.seconds
    assert connections(service).ok
    await stopped(task)


async def test_seeds_come_from_rest_while_kraken_takes_no_connections(simulator, open_bus, ears, broker):
    service = service_on(simulator, open_bus)
    task = asyncio.create_task(service.run())
    await ears.until(lambda: service.health().ready)
    await fault(simulator, kind="http_429", seconds=60)
    async with MemoryBus(broker, client_id="asker") as bus:
        await bus.publish(TOPICS.seed_requests(), encode_seed_request(SeedRequest(("BTC/USD",))))
        await ears.until(
            lambda: {h.timeframe for h in ears.of("history") if h.source is Source.REST} == set(Timeframe), 40.0
        )
    await stopped(task)


async def test_gateway_that_is_restarted_over_and_over_stays_within_the_budget_and_says_so(simulator, open_bus, ears):
    for _ in range(30):
        feeds = len(ears.of("feed"))
        service = service_on(simulator, open_bus)
        task = asyncio.create_task(service.run())
        await ears.until(
            lambda: not connections(service).ok or (len(ears.of("feed")) > feeds and service.health().ready)  # noqa: B023
        )
        await stopped(task)
    found = await stats(simulator)
    # An attempt that is counted may be cut off before it is made.
    assert THRIFT.limit - 2 <= found["connection_attempts_in_window"] <= THRIFT.limit
    assert found["connections_refused"] == 0
    assert "18 of 18 connection attempts" in connections(service).detail
    assert "may be made in" in connections(service).detail


async def test_life_that_is_short_takes_one_connection(simulator, open_bus, ears):
    service = service_on(simulator, open_bus)
    task = asyncio.create_task(service.run())
    await ears.until(lambda: service.health().ready)
    await stopped(task)
    assert (await stats(simulator))["connection_attempts_in_window"] == 1


def test_symbol_that_was_quiet_for_days_is_told_by_its_last_trades():
    now = 1_000_000_020.5
    trades = [Trade(n, Decimal(now - 500_000 + 70 * n), Decimal(n + 1), Decimal(1)) for n in range(20)]
    answer = quiet_answer("THIN/USD", trades, full=True, decimals=2, taken=now)
    assert answer is not None
    assert len(answer.candles) == LATEST_ROWS
    assert (answer.covers.start, answer.covers.end) == (answer.candles[0].open_time, now)
    assert answer.candles[-1].close == 20
    assert quiet_answer("THIN/USD", trades[:1], full=True, decimals=2, taken=now) is None
    assert quiet_answer("THIN/USD", [], full=False, decimals=2, taken=now) is None
