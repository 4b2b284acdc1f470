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
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, Topics

DEAD_LETTERS_KEPT = 500
"""Maximum number of dead letters; a further one replaces the oldest."""

LETTERS_KEPT_EMBEDDED = 50
"""The maximum on the embedded broker, which stops delivering at 100 unacknowledged messages."""

DEAD_LETTERS_INBOUND_SPARE = 20
"""Number of messages that the broker may send in addition to those that are kept."""

DEAD_LETTERS_SESSION_SECONDS = 7 * 86400
"""How long the broker keeps dead letters while this service is down."""

_RESENDABLE: Mapping[str, tuple[str, ...]] = {
    "kraken-gateway": ("request", "raw", "history", "feed"),
    "aggregator": ("raw", "history", "candles", "feed", "request"),
    "influx-writer": ("raw", "candles", "feed"),
    "admin-api": ("candles", "history", "feed"),
}
"""What each service receives, or publishes itself. We may publish more than it may, so its dead letter must not make us
publish anything else.
"""

_CUT = re.compile(r"\(payload of [0-9]+ bytes cut to [0-9]+\)$")
_DROPPED_REMEMBERED = 10_000
_PATIENCE_SECONDS = 5.0

log = get_logger(__name__)


@dataclass(slots=True)
class _Held:
    letter: DeadLetterBody
    acks: list[Callable[[], None]] = field(default_factory=list)


def client_id_of_dead_letters(topics: Topics, instance: str) -> str:
    """The MQTT client id for dead letters of an instance of admin-api; the same after a restart."""
    return f"{topics.prefix}-admin-api-{instance}-letters"


def letter_of(service: str, payload: bytes) -> DeadLetterBody:
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
    """The last `kept` dead letters of all services, in a session of their own on `bus`.

    `bus` must accept DEAD_LETTERS_INBOUND_SPARE more unacknowledged messages than are kept. PUBACKs are sent in the
    order of arrival, so a dead letter that was dropped while an older one is kept is acknowledged only with that one:
    after a reconnect it stays dropped, after a restart of this process it is listed again. Resending it twice does no
    harm, because candles and requests are idempotent.
    """

    def __init__(self, bus: Bus, topics: Topics, metrics: DeadLetterMetrics, kept: int = DEAD_LETTERS_KEPT) -> None:
        self._bus = bus
        self._topics = topics
        self._metrics = metrics
        self._kept = kept
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._dropped: OrderedDict[str, None] = OrderedDict()
        # The messages that the broker counts as unacknowledged: from the oldest kept one on, with dropped ones.
        self._unacknowledged: deque[str] = deque()
        metrics.kept.set_function(self._held.__len__)

    async def run(self) -> None:
        """Collect until cancelled. BusError if the broker refuses the first connection."""
        async with self._bus:
            await self._bus.subscribe(self._topics.dead_letter("+"))
            async for event in self._bus.events():
                if isinstance(event, Connected):
                    # The broker redelivers unacknowledged messages; only the new acknowledgements are valid.
                    self._unacknowledged.clear()
                    for held in self._held.values():
                        held.acks.clear()
                else:
                    self._take(event)

    def newest_first(self, service: str | None = None) -> list[DeadLetterBody]:
        """The kept dead letters of one service or of all."""
        letters = (held.letter for held in reversed(self._held.values()))
        return [letter for letter in letters if service is None or letter.service == service]

    async def resend(self, letter_id: str) -> DeadLetterBody:
        """Republish the message of a dead letter on its topic, and drop the dead letter once the broker has confirmed.

        HTTPException: 404 if the id is unknown, 409 if the message cannot be republished, 503 if the broker cannot
        accept it now.
        """
        letter = self._known(letter_id)
        payload = self._sendable(letter)
        if not self._bus.connected:
            raise HTTPException(503, "the broker is not connected")
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await (await self._bus.publish(letter.topic, payload))
        except (TimeoutError, BusClosedError):
            raise HTTPException(503, "the broker has not confirmed the message in time; it may still get it") from None
        except (BusError, ValueError) as error:
            raise HTTPException(409, str(error)) from None
        log.info("dead-letter.resent", id=letter.id, topic=letter.topic)
        self._end(letter_id, "resent")
        return letter

    def drop(self, letter_id: str) -> DeadLetterBody:
        """Drop a dead letter; HTTPException 404 if the id is unknown."""
        letter = self._known(letter_id)
        self._end(letter_id, "dropped")
        return letter

    def _known(self, letter_id: str) -> DeadLetterBody:
        held = self._held.get(letter_id)
        if held is None:
            raise HTTPException(404, f"expected the id of a dead letter of GET /dead-letters, got {letter_id!r}")
        return held.letter

    def _take(self, message: Message) -> None:
        service = message.topic.rpartition("/")[2]
        try:
            letter = letter_of(service, message.payload)
        except PayloadError as error:
            log.warning("dead-letter.undecodable", topic=message.topic, reason=str(error))
            self._metrics.ended.labels("undecodable").inc()
            message.ack()
            return
        if letter.id in self._dropped:
            message.ack()
            if self._unacknowledged:
                self._unacknowledged.append(letter.id)
            return
        self._held.setdefault(letter.id, _Held(letter)).acks.append(message.ack)
        self._unacknowledged.append(letter.id)
        while len(self._held) > self._kept or len(self._unacknowledged) > self._kept:
            self._end(next(iter(self._held)), "pushed-out")

    def _end(self, letter_id: str, how: str) -> None:
        held = self._held.pop(letter_id, None)
        if held is None:
            return
        self._metrics.ended.labels(how).inc()
        self._dropped[letter_id] = None
        while len(self._dropped) > _DROPPED_REMEMBERED:
            self._dropped.popitem(last=False)
        for ack in held.acks:
            ack()
        while self._unacknowledged and self._unacknowledged[0] not in self._held:
            self._unacknowledged.popleft()

    def _sendable(self, letter: DeadLetterBody) -> bytes:
        """The message of a dead letter; HTTPException 409 if it must not be republished."""
        if letter.truncated:
            raise HTTPException(409, f"expected the whole message, got a part: {letter.reason}")
        try:
            first = self._topics.split(letter.topic)[0]
        except TopicError as error:
            raise HTTPException(409, str(error)) from None
        topics = _RESENDABLE.get(letter.service, ())
        if first not in topics:
            expected = f"a message of {', '.join(topics)}" if topics else "a dead letter of one of our services"
            raise HTTPException(409, f"expected {expected}, got one of {letter.service} on {letter.topic!r}")
        return _bytes_of(letter.payload)


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
