import asyncio
import os
import socket
from contextlib import asynccontextmanager

import pytest

from command import broker_of, kill_broker_of
from crypto_ingress.broker import EmbeddedBroker
from ingress_common.backoff import Backoff
from ingress_common.bus import Connected, Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.errors import StartError


async def test_embedded_broker_takes_mqtt_5_clients_while_it_is_entered():
    async with EmbeddedBroker() as broker:
        assert broker.running
        async with MqttBus(broker.url, client_id="a") as bus:
            await (await bus.publish("a", b"1"))
    assert not broker.running


async def test_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port}"):
            async with EmbeddedBroker(port):
                pass


async def test_of_two_brokers_started_on_one_port_one_gets_an_error():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    brokers = [EmbeddedBroker(port), EmbeddedBroker(port)]
    outcomes = await asyncio.gather(*(broker.__aenter__() for broker in brokers), return_exceptions=True)
    try:
        assert [type(outcome) for outcome in outcomes].count(StartError) == 1
    finally:
        for broker in brokers:
            await broker.__aexit__(None, None, None)
    # Given back at the end.
    async with EmbeddedBroker(port):
        pass


@pytest.fixture
def at_once(monkeypatch) -> None:
    """The broker is restarted without pauses."""
    monkeypatch.setattr("crypto_ingress.broker._BACKOFF", Backoff(0.01, 0.01))


@asynccontextmanager
async def kept_running(broker: EmbeddedBroker):
    async with broker:
        keeping = asyncio.create_task(broker.keep_running())
        try:
            yield keeping
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])


async def next_message(bus: MqttBus) -> Message:
    async for event in bus.events():
        if isinstance(event, Message):
            event.ack()
            return event
    raise AssertionError("the bus was closed")


async def test_killed_broker_is_restarted_on_its_port_and_its_clients_return(at_once):
    broker = EmbeddedBroker()
    async with asyncio.timeout(60), kept_running(broker), MqttBus(broker.url, client_id="a") as bus:
        await bus.subscribe("a")
        url, killed = broker.url, broker_of(os.getpid())
        kill_broker_of(os.getpid())
        connections = 0
        async for event in bus.events():
            connections += isinstance(event, Connected)
            if connections == 2:
                break
        assert broker.running
        assert broker.url == url
        assert broker_of(os.getpid()) not in (None, killed)
        await (await bus.publish("a", b"1"))
        assert (await next_message(bus)).payload == b"1"
    assert not broker.running


async def test_broker_that_ends_several_times_in_a_row_at_once_is_an_error(at_once):
    broker = EmbeddedBroker()
    async with asyncio.timeout(60), kept_running(broker) as keeping:
        while not keeping.done():
            kill_broker_of(os.getpid())
            await asyncio.wait([keeping], timeout=0.02)
        with pytest.raises(StartError, match=rf"on {broker.url.removeprefix('mqtt://')} ended 5 times in a row"):
            await keeping


async def test_broker_that_ends_now_and_then_is_always_restarted(at_once, monkeypatch):
    monkeypatch.setattr("crypto_ingress.broker._BRIEF_SECONDS", 0.0)
    broker = EmbeddedBroker()
    async with asyncio.timeout(60), kept_running(broker) as keeping:
        seen: set[int] = set()
        while len(seen) < 8:
            assert not keeping.done()
            pid = broker_of(os.getpid())
            if pid is not None and pid not in seen:
                seen.add(pid)
                kill_broker_of(os.getpid())
            await asyncio.wait([keeping], timeout=0.02)
