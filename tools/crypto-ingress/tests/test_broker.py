import asyncio
import socket

import pytest

from crypto_ingress.broker import EmbeddedBroker
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
