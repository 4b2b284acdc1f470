"""After a broker refuses a subscription at a reconnect, the bus is not connected until the broker grants it."""

import asyncio

import mqtt5

from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.url import MqttUrl
from waiting import until


class Broker:
    """Speaks just enough MQTT 5 to accept clients, and responds to each SUBSCRIBE with the next of `codes`."""

    def __init__(self) -> None:
        self.codes: list[mqtt5.SubAckReasonCode] = []
        self.subscribed: list[list[str]] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        data = b""
        while more := await reader.read(65536):
            data += more
            while True:
                try:
                    packet, size = mqtt5.read(memoryview(data))
                except IndexError:
                    break
                data = data[size:]
                writer.write(self._response_to(packet))

    def _response_to(self, packet: mqtt5.Packet) -> bytes:
        match packet:
            case mqtt5.ConnectPacket():
                return mqtt5.ConnAckPacket().write()
            case mqtt5.SubscribePacket():
                self.subscribed.append([wanted.pattern for wanted in packet.topic_filters])
                code = self.codes.pop(0) if self.codes else mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE
                return mqtt5.SubAckPacket(packet.packet_id, [code] * len(packet.topic_filters)).write()
            case _:
                return b""


async def test_refused_subscription_is_retried_and_the_bus_is_not_ready_meanwhile():
    broker = Broker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, MqttBus(MqttUrl("127.0.0.1", port), client_id="a") as bus:
        await bus.subscribe("a/#")
        assert bus.connected
        broker.codes = [mqtt5.SubAckReasonCode.NOT_AUTHORIZED] * 3
        broker.writers.pop().transport.abort()
        await until(lambda: len(broker.subscribed) >= 3)
        assert not bus.connected
        await until(lambda: bus.connected)
        assert broker.subscribed == [["a/#"]] * 5
