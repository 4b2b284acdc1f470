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
