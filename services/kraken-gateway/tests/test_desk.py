"""What becomes of a message that the gateway refuses: nothing is lost between its dead letter and its end."""

import asyncio
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry

from ingress_common.bus import BusError, Message
from ingress_common.membership import Members
from ingress_common.topics import Topics
from kraken_gateway.desk import Desk
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import Outlet

TOPICS = Topics()


class HeldBus:
    """Brings `messages`, and lets a test decide when, and how, a publication ends."""

    def __init__(self, *messages: Message) -> None:
        self._messages = messages
        self.deliveries: list[asyncio.Future[None]] = []

    async def subscribe(self, *filters: str) -> None:
        pass

    async def events(self):
        for message in self._messages:
            yield message
        await asyncio.get_running_loop().create_future()

    async def publish(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        self.deliveries.append(asyncio.get_running_loop().create_future())
        return self.deliveries[-1]


@pytest.mark.parametrize("outcome", [None, BusError("too large")])
async def test_refused_message_stays_with_the_broker_until_its_dead_letter_is_there(outcome):
    acknowledged = []
    topic = TOPICS.history_requests()
    bus = HeldBus(*(Message(topic, b"nonsense", 1, False, lambda n=n: acknowledged.append(n)) for n in range(2)))
    metrics = GatewayMetrics(CollectorRegistry())
    desk = Desk(
        TOPICS,
        Members(TOPICS, "kraken-gateway", "gw"),
        Mock(),
        Mock(),
        Mock(),
        Outlet(bus, TOPICS, metrics, "here"),
        metrics,
        Mock(),
        lambda: 1_700_000_000.0,
    )
    listening = asyncio.create_task(desk.listen(bus))
    while len(bus.deliveries) < 2:
        await asyncio.sleep(0)
    # A second one does not wait for the first, and neither is done with.
    assert acknowledged == []
    for delivery in bus.deliveries:
        delivery.set_result(None) if outcome is None else delivery.set_exception(outcome)
    while len(acknowledged) < 2:
        await asyncio.sleep(0)
    assert acknowledged == [0, 1]
    assert not listening.done()
    listening.cancel()
    await asyncio.wait([listening])
