"""Dead letters on the bus."""

import pytest
from memory_broker import MemoryBroker, MemoryBus

from ingress_common.bus import BusError, Message, refusals, session
from ingress_common.dead_letters import DeadLetterPublisher, was_delivered
from ingress_common.model import DEAD_LETTER_BYTES, DeadLetter
from ingress_common.payloads import decode_dead_letter
from ingress_common.topics import Topics
from waiting import until

TOPICS = Topics()
RAW = TOPICS.raw("BTC/USD")


class SmallPackets(MemoryBus):
    """A bus of a broker that takes packets of 4 kB at most."""

    @property
    def maximum_packet(self):
        return 4096


async def published(payload: bytes, kind: type[MemoryBus] = MemoryBus) -> DeadLetter:
    """The dead letter of `payload` as it arrives."""
    broker = MemoryBroker()
    async with MemoryBus(broker, client_id="reader") as reader, kind(broker, client_id="writer") as bus:
        await reader.subscribe(TOPICS.dead_letter("+"))
        letters = DeadLetterPublisher(bus, TOPICS, "aggregator")
        assert await was_delivered(await letters.publish(RAW, payload, "expected a candle", 1_700_000_000.0), RAW)
        async for event in reader.events():
            if isinstance(event, Message):
                assert event.topic == TOPICS.dead_letter("aggregator")
                return decode_dead_letter(event.payload)
    raise AssertionError("expected a dead letter, got none")


async def test_dead_letter_has_the_message_its_topic_and_the_reason():
    assert await published(b"{}") == DeadLetter(RAW, "{}", "expected a candle", 1_700_000_000.0)


async def test_long_payload_is_cut():
    dead = await published(b"x" * (DEAD_LETTER_BYTES + 1))
    assert len(dead.payload) == DEAD_LETTER_BYTES
    assert f"payload of {DEAD_LETTER_BYTES + 1} bytes cut" in dead.reason


async def test_payload_is_cut_to_what_the_broker_takes():
    dead = await published(b"x" * 4096, SmallPackets)
    assert len(dead.payload) == 1024
    assert "payload of 4096 bytes cut to 1024" in dead.reason


async def test_dead_letter_that_is_not_allowed_is_published_again_until_it_is(monkeypatch):
    monkeypatch.setattr(refusals, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(session, "_RETRY_LOOK_SECONDS", 0.01)
    broker = MemoryBroker()
    broker.refuses = lambda _topic: True
    async with MemoryBus(broker, client_id="reader") as reader, MemoryBus(broker, client_id="writer") as bus:
        await reader.subscribe(TOPICS.dead_letter("+"))
        letters = DeadLetterPublisher(bus, TOPICS, "aggregator")
        for number in range(3):
            assert not await was_delivered(await letters.publish(RAW, str(number).encode(), "", 1_700_000_000.0), RAW)
        assert "refuses messages on ingress/dead-letter/aggregator" in bus.problem
        broker.refuses = lambda _topic: False
        async for event in reader.events():
            if isinstance(event, Message):
                assert decode_dead_letter(event.payload).payload == "2"
                break
        await until(lambda: not bus.problem)
        assert await was_delivered(await letters.publish(RAW, b"3", "", 1_700_000_000.0), RAW)


async def test_refused_dead_letter_is_no_error():
    async def refused():
        raise BusError("too large")

    assert not await was_delivered(refused(), RAW)


@pytest.mark.parametrize(("topic", "expected"), [(TOPICS.dead_letter("any"), True), (RAW, False)])
async def test_dead_letters_are_told_from_other_messages(topic, expected):
    async with MemoryBus(MemoryBroker(), client_id="writer") as bus:
        assert DeadLetterPublisher(bus, TOPICS, "aggregator").is_dead_letter(topic) is expected
