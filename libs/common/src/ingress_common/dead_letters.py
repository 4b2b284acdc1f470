"""Publishing dead letters: the messages that a service rejected."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

from ingress_common.bus import Bus, BusClosedError, BusError, NotAllowedError
from ingress_common.logs import get_logger
from ingress_common.model import DEAD_LETTER_BYTES
from ingress_common.payloads import dead_letter, encode_dead_letter
from ingress_common.topics import Topics

_OF_A_PACKET = 4
"""A payload takes at most one part in so many of the broker's maximum packet: its text in JSON is longer."""

_REPEAT_SECONDS = 20.0
"""Sooner than the bus forgets a refusal."""

log = get_logger(__name__)


class DeadLetterPublisher:
    """Publishes the dead letters of `service` on `bus`.

    While the broker allows none, one of them is published again every 20 s: so the bus has a problem as long as that
    lasts, and none soon after. The others are in the log only.
    """

    def __init__(self, bus: Bus, topics: Topics, service: str) -> None:
        self._bus = bus
        self._topic = topics.dead_letter(service)
        self._deliveries: set[asyncio.Task[None]] = set()
        self._repeats = False

    async def publish(self, topic: str, payload: bytes, reason: str, at: float) -> Awaitable[None]:
        """Publish the dead letter for `payload`, received on `topic` at `at` (unix seconds) and rejected for `reason`.

        It contains as much of the payload as the broker takes. Returns the delivery, which raises BusError if the
        broker refuses the dead letter.
        """
        packet = self._bus.maximum_packet
        limit = DEAD_LETTER_BYTES if packet is None else min(DEAD_LETTER_BYTES, packet // _OF_A_PACKET)
        letter = dead_letter(topic, payload, reason, at, limit)
        encoded = encode_dead_letter(letter)
        delivery = await self._bus.publish(self._topic, encoded)
        followed = asyncio.create_task(self._follow(delivery, encoded), name="dead-letters.follow")
        self._deliveries.add(followed)
        followed.add_done_callback(self._deliveries.discard)
        return delivery

    async def _follow(self, delivery: Awaitable[None], letter: bytes) -> None:
        """Publish a letter that is not allowed again until it is, unless another one already is."""
        with suppress(BusError, BusClosedError):
            try:
                await delivery
            except NotAllowedError:
                if not self._repeats:
                    await self._repeat(letter)

    async def _repeat(self, letter: bytes) -> None:
        self._repeats = True
        try:
            while True:
                await asyncio.sleep(_REPEAT_SECONDS)
                with suppress(NotAllowedError):
                    await (await self._bus.publish(self._topic, letter))
                    return
        finally:
            self._repeats = False

    def is_dead_letter(self, topic: str) -> bool:
        """Whether `topic` has dead letters, of any service. A malformed one must not cause another: that is a loop."""
        return topic.rpartition("/")[0] == self._topic.rpartition("/")[0]


async def was_delivered(delivery: Awaitable[None], topic: str) -> bool:
    """Wait for the delivery of the dead letter of a message on `topic`. False if the broker refuses it for good.

    Acknowledge the message in both cases, or it would be redelivered without end: the refusal is in the log.
    """
    try:
        await delivery
    except BusError as error:
        log.error("dead-letter.refused", topic=topic, reason=str(error))
        return False
    return True
