"""The demo stack, end to end: healthy, complete, right, scalable, closed to strangers, and gone when told to."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections import Counter

import pytest

from demo_stack import SECONDS, SERVICES, TOPICS, VIEWER, Stack, await_closed_minute, differences, until
from ingress_common.bus import BusError
from ingress_common.bus.mqtt import MqttBus

# Building the images and waiting for minutes to close takes its time.
pytestmark = pytest.mark.timeout(900)

_HANDOVER_SECONDS = 20


def test_stack_is_healthy(stack: Stack) -> None:
    health = f"http://{stack.address('admin-api', 8000)}/health"

    def all_well() -> bool:
        try:
            with urllib.request.urlopen(health, timeout=10) as answer:
                return json.load(answer)["status"] == "ok"
        except urllib.error.HTTPError:
            return False

    until(all_well, 90, "GET /health to say ok")


def test_image_of_admin_api_brings_the_dashboard(stack: Stack) -> None:
    with urllib.request.urlopen(f"http://{stack.address('admin-api', 8000)}/", timeout=10) as page:
        assert b"assets/main-" in page.read()


def test_influxdb_holds_the_true_candles_of_all_seven_timeframes(stack: Stack) -> None:
    symbols = set(stack.symbols)
    await_closed_minute(stack, time.time())
    for timeframe in SECONDS:
        assert set(stack.stored(timeframe)) == symbols, timeframe
    assert differences(stack) == []


def test_scaling_up_and_down_moves_symbols_and_no_candle_is_missing_or_different(stack: Stack) -> None:
    for aggregators, gateways, writers in ((3, 2, 2), (1, 1, 1)):
        stack.scale(aggregator=aggregators, kraken_gateway=gateways, influx_writer=writers)
        until(
            lambda: _shared_out(stack, aggregators, gateways, writers),  # noqa: B023 - called in this round only
            _HANDOVER_SECONDS,
            f"every symbol with one of {aggregators} aggregators and one of {gateways} gateways",
        )
        await_closed_minute(stack, time.time())
        assert _shared_out(stack, aggregators, gateways, writers)
    assert differences(stack) == []


def test_broker_refuses_anonymous_clients_and_viewers_only_read(stack: Stack) -> None:
    async def strangers() -> None:
        with pytest.raises(BusError):
            async with MqttBus(f"mqtt://{stack.mqtt_address}", client_id="stranger"):
                pass
        async with MqttBus(f"mqtt://viewer:{VIEWER}@{stack.mqtt_address}", client_id="curious") as bus:
            with pytest.raises(BusError):
                await (await bus.publish(TOPICS.candles("BTC/USD", "1m"), b"{}"))

    asyncio.run(strangers())


def test_our_containers_are_locked_down_and_ports_are_on_loopback(stack: Stack) -> None:
    for container in stack.containers():
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        host = container["HostConfig"]
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["Memory"] > 0, service
        assert host["NanoCpus"] > 0, service
        for bindings in container["NetworkSettings"]["Ports"].values():
            assert {binding["HostIp"] for binding in bindings or ()} <= {"127.0.0.1"}, service
        if service in SERVICES:
            assert host["ReadonlyRootfs"], service
            assert container["Config"]["User"] not in ("", "0", "root"), service


def test_every_service_stops_in_time(stack: Stack) -> None:
    stack.compose("stop", *SERVICES)
    ended = {
        container["Config"]["Labels"]["com.docker.compose.service"]: container["State"]["ExitCode"]
        for container in stack.containers()
    }
    assert {service: ended[service] for service in SERVICES} == dict.fromkeys(SERVICES, 0)


def _shared_out(stack: Stack, aggregators: int, gateways: int, writers: int) -> bool:
    owners = stack.owners()
    once = dict.fromkeys(stack.symbols, 1)
    of_aggregators = Counter(symbol for symbols in owners.aggregators.values() for symbol in symbols)
    of_feeds = Counter(symbol for symbols in owners.feeds.values() for symbol in symbols)
    # Hashing may give an instance nothing, and a gateway without symbols has no feed.
    return (
        len(owners.aggregators) == aggregators
        and len(owners.feeds) <= gateways
        and len(owners.writers) == writers
        and of_aggregators == once
        and of_feeds == once
    )
