"""Publishing dead letters: the messages that a service rejected."""

from collections.abc import Awaitable

from ingress_common.bus import Bus, BusError
from ingress_common.logs import get_logger
from ingress_common.model import DEAD_LETTER_BYTES
from ingress_common.payloads import dead_letter, encode_dead_letter
from ingress_common.topics import Topics

_OF_A_PACKET = 4
"""A payload takes at most one part in so many of the broker's maximum packet: its text in JSON is longer."""

log = get_logger(__name__)


class DeadLetterPublisher:
    """Publishes the dead letters of `service` on `bus`.

    While the broker allows none, the bus publishes the last one again until it does; the others are in the log only.
    """

    def __init__(self, bus: Bus, topics: Topics, service: str) -> None:
        self._bus = bus
        self._topic = topics.dead_letter(service)

    async def publish(self, topic: str, payload: bytes, reason: str, at: float) -> Awaitable[None]:
        """Publish the dead letter for `payload`, received on `topic` at `at` (unix seconds) and rejected for `reason`.

        It contains as much of the payload as the broker takes. Returns the delivery, which raises BusError if the
        broker refuses the dead letter.
        """
        packet = self._bus.maximum_packet
        limit = DEAD_LETTER_BYTES if packet is None else min(DEAD_LETTER_BYTES, packet // _OF_A_PACKET)
        letter = dead_letter(topic, payload, reason, at, limit)
        return await self._bus.publish(self._topic, encode_dead_letter(letter))

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
