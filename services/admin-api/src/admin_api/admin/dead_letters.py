"""Dead letters: kept unacknowledged at the broker, listed, resent and dropped.

The broker keeps them in the session of this connection; this service stores nothing. So they survive a restart, and end
with the session.
"""

import asyncio
import base64
import binascii
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.exceptions import HTTPException

from admin_api.admin.bodies import DeadLetterBody
from ingress_common.bus import Bus, BusClosedError, BusError, Connected, Message
from ingress_common.logs import get_logger
from ingress_common.payloads import PayloadError, decode_dead_letter
from ingress_common.service_names import ADMIN_API, AGGREGATOR, GATEWAY, WRITER
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, Topics

DEAD_LETTERS_KEPT = 500
"""Maximum number of dead letters; a further one replaces the oldest."""

DEAD_LETTERS_KEPT_EMBEDDED = 50
"""The maximum on the embedded broker, which stops delivering at 100 unacknowledged messages."""

DEAD_LETTERS_INBOUND_SPARE = 20
"""Number of messages that the broker may send in addition to those that are kept."""

DEAD_LETTERS_SESSION_SECONDS = 7 * 86400
"""How long the broker keeps dead letters while this service is down."""

_RESENDABLE: Mapping[str, tuple[str, ...]] = {
    GATEWAY: ("request", "raw", "history", "feed"),
    AGGREGATOR: ("raw", "history", "candles", "feed", "request"),
    WRITER: ("raw", "candles", "feed"),
    ADMIN_API: ("candles", "history", "feed"),
}
"""What each service receives, or publishes itself. We may publish more than it may, so its dead letter must not make us
publish anything else.
"""

_CUT = re.compile(r"\(payload of [0-9]+ bytes cut to [0-9]+\)$")
_DROPPED_REMEMBERED = 10_000
_PATIENCE_SECONDS = 5.0

log = get_logger(__name__)


@dataclass(slots=True)
class _Kept:
    dead_letter: DeadLetterBody
    acks: list[Callable[[], None]] = field(default_factory=list)


def client_id_of_dead_letters(topics: Topics, instance: str) -> str:
    """The MQTT client id for dead letters of an instance of admin-api; the same after a restart."""
    return f"{topics.prefix}-{ADMIN_API}-{instance}-letters"


def dead_letter_of(service: str, payload: bytes) -> DeadLetterBody:
    """The dead letter in a payload; PayloadError if it is malformed. Its id is a hash of its content, so that it is the
    same after a restart.
    """
    content = decode_dead_letter(payload)
    return DeadLetterBody(
        id=sha256(f"{service}\0".encode() + payload).hexdigest()[:20],
        service=service,
        topic=content.topic,
        payload=content.payload,
        reason=content.reason,
        at=rfc3339(content.at),
        truncated=_CUT.search(content.reason) is not None,
    )


class DeadLetterMetrics:
    """Metrics of dead letters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.kept = Gauge("ingress_dead_letters_kept", "Dead letters that are kept", registry=registry)
        self.ended = Counter(
            "ingress_dead_letters_ended",
            "Dead letters no longer kept: resent, dropped on request, pushed out by newer ones, or undecodable",
            ("how",),
            registry=registry,
        )


class DeadLetters:
    """The last `limit` dead letters of all services, in a session of their own on `bus`.

    `bus` must accept DEAD_LETTERS_INBOUND_SPARE more unacknowledged messages than are kept. PUBACKs are sent in the
    order of arrival, so a dead letter that was dropped while an older one is kept is acknowledged only with that one:
    after a reconnect it stays dropped, after a restart of this process it is listed again. Resending it twice does no
    harm, because candles and requests are idempotent.
    """

    def __init__(self, bus: Bus, topics: Topics, metrics: DeadLetterMetrics, limit: int = DEAD_LETTERS_KEPT) -> None:
        self._bus = bus
        self._topics = topics
        self._metrics = metrics
        self._limit = limit
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._dropped: OrderedDict[str, None] = OrderedDict()
        # The messages that the broker counts as unacknowledged: from the oldest kept one on, with dropped ones.
        self._unacknowledged: deque[str] = deque()
        metrics.kept.set_function(self._kept.__len__)

    async def run(self) -> None:
        """Collect until cancelled. BusError if the broker refuses the first connection."""
        async with self._bus:
            await self._bus.subscribe(self._topics.dead_letter("+"))
            async for event in self._bus.events():
                if isinstance(event, Connected):
                    # The broker redelivers unacknowledged messages; only the new acknowledgements are valid.
                    self._unacknowledged.clear()
                    for kept in self._kept.values():
                        kept.acks.clear()
                else:
                    self._take(event)

    def newest_first(self, service: str | None = None) -> list[DeadLetterBody]:
        """The kept dead letters of one service or of all."""
        dead_letters = (kept.dead_letter for kept in reversed(self._kept.values()))
        return [dead_letter for dead_letter in dead_letters if service is None or dead_letter.service == service]

    async def resend(self, dead_letter_id: str) -> DeadLetterBody:
        """Republish the message of a dead letter on its topic, and drop the dead letter once the broker has confirmed.

        HTTPException: 404 if the id is unknown, 409 if the message cannot be republished, 503 if the broker cannot
        accept it now.
        """
        dead_letter = self._known(dead_letter_id)
        payload = self._sendable(dead_letter)
        if not self._bus.connected:
            raise HTTPException(503, "the broker is not connected")
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await (await self._bus.publish(dead_letter.topic, payload))
        except (TimeoutError, BusClosedError):
            raise HTTPException(
                503, "the broker did not confirm the message in time; it may still deliver it"
            ) from None
        except (BusError, ValueError) as error:
            raise HTTPException(409, str(error)) from None
        log.info("dead-letter.resent", id=dead_letter.id, topic=dead_letter.topic)
        self._end(dead_letter_id, "resent")
        return dead_letter

    def drop(self, dead_letter_id: str) -> DeadLetterBody:
        """Drop a dead letter; HTTPException 404 if the id is unknown."""
        dead_letter = self._known(dead_letter_id)
        self._end(dead_letter_id, "dropped")
        return dead_letter

    def _known(self, dead_letter_id: str) -> DeadLetterBody:
        kept = self._kept.get(dead_letter_id)
        if kept is None:
            raise HTTPException(404, f"expected the id of a dead letter of GET /dead-letters, got {dead_letter_id!r}")
        return kept.dead_letter

    def _take(self, message: Message) -> None:
        service = message.topic.rpartition("/")[2]
        try:
            dead_letter = dead_letter_of(service, message.payload)
        except PayloadError as error:
            log.warning("dead-letter.undecodable", topic=message.topic, reason=str(error))
            self._metrics.ended.labels("undecodable").inc()
            message.ack()
            return
        if dead_letter.id in self._dropped:
            message.ack()
            if self._unacknowledged:
                self._unacknowledged.append(dead_letter.id)
            return
        self._kept.setdefault(dead_letter.id, _Kept(dead_letter)).acks.append(message.ack)
        self._unacknowledged.append(dead_letter.id)
        while len(self._kept) > self._limit or len(self._unacknowledged) > self._limit:
            self._end(next(iter(self._kept)), "pushed-out")

    def _end(self, dead_letter_id: str, how: str) -> None:
        kept = self._kept.pop(dead_letter_id, None)
        if kept is None:
            return
        self._metrics.ended.labels(how).inc()
        self._dropped[dead_letter_id] = None
        while len(self._dropped) > _DROPPED_REMEMBERED:
            self._dropped.popitem(last=False)
        for ack in kept.acks:
            ack()
        while self._unacknowledged and self._unacknowledged[0] not in self._kept:
            self._unacknowledged.popleft()

    def _sendable(self, dead_letter: DeadLetterBody) -> bytes:
        """The message of a dead letter; HTTPException 409 if it must not be republished."""
        if dead_letter.truncated:
            raise HTTPException(409, f"expected the whole message, got a part: {dead_letter.reason}")
        try:
            first = self._topics.split(dead_letter.topic)[0]
        except TopicError as error:
            raise HTTPException(409, str(error)) from None
        topics = _RESENDABLE.get(dead_letter.service, ())
        if first not in topics:
            expected = f"a message of {', '.join(topics)}" if topics else "a dead letter of one of our services"
            raise HTTPException(409, f"expected {expected}, got one of {dead_letter.service} on {dead_letter.topic!r}")
        return _bytes_of(dead_letter.payload)


def _bytes_of(text: str) -> bytes:
    """The payload of a dead letter's text, which `ingress_common.payloads.dead_letter` encodes."""
    prefix = "base64:"
    if text.startswith(prefix):
        try:
            return base64.b64decode(text.removeprefix(prefix), validate=True)
        except binascii.Error:
            # The original payload itself began with the prefix.
            return text.encode()
    return text.encode()
