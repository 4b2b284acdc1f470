"""Dead letters: kept unacknowledged at the broker, listed, re-sent and dropped.

The session of this connection is the place where they are kept: nothing is stored here. So they survive a restart, and
a broker that forgets the session forgets them too.
"""

import asyncio
import base64
import binascii
import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from prometheus_client import CollectorRegistry, Counter, Gauge

from ingress_common.bus import Bus, BusClosedError, BusError, Connected, Message
from ingress_common.logs import get_logger
from ingress_common.model import DeadLetter
from ingress_common.payloads import PayloadError, decode_dead_letter
from ingress_common.topics import TopicError, Topics

LETTERS_KEPT = 500
"""Dead letters that are kept; the oldest goes when one more comes."""

LETTERS_KEPT_EMBEDDED = 50
"""The same on the embedded broker, which stops delivering at 100 unacknowledged messages."""

LETTERS_INBOUND_SPARE = 20
"""Messages that the broker may send beyond those that are kept."""

LETTERS_SESSION_SECONDS = 7 * 86400
"""How long the broker keeps the letters while this service is away."""

_RESENDABLE = ("raw", "history", "candles", "feed", "request")
_CUT = re.compile(r"\(payload of [0-9]+ bytes cut to [0-9]+\)$")
_DROPPED_REMEMBERED = 10_000
_PATIENCE_SECONDS = 5.0

log = get_logger(__name__)


class NotResendableError(Exception):
    """A letter whose message cannot be published again; the message says why."""


class BrokerAwayError(Exception):
    """The broker does not take the message now."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter of `service`. `id` follows from its content, so that it is the same after a restart."""

    id: str
    service: str
    content: DeadLetter

    @property
    def truncated(self) -> bool:
        """Whether only the first part of the payload was kept, by its reason."""
        return _CUT.search(self.content.reason) is not None


@dataclass(slots=True)
class _Held:
    letter: Letter
    acks: list[Callable[[], None]] = field(default_factory=list)


def client_id_of_letters(topics: Topics, instance: str) -> str:
    """The MQTT client that holds the letters of an instance of admin-api; the same one after a restart."""
    return f"{topics.prefix}-admin-api-{instance}-letters"


def letter_of(service: str, payload: bytes) -> Letter:
    """The letter of a payload; PayloadError if it is none."""
    content = decode_dead_letter(payload)
    return Letter(sha256(f"{service}\0".encode() + payload).hexdigest()[:20], service, content)


class LetterMetrics:
    """What became of dead letters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.held = Gauge("ingress_dead_letters_held", "Dead letters that are kept", registry=registry)
        self.ended = Counter(
            "ingress_dead_letters_ended",
            "Dead letters no longer kept: resent, dropped by hand, pushed out by newer ones, or undecodable",
            ("how",),
            registry=registry,
        )


class DeadLetters:
    """The last `kept` dead letters of all services, on a connection and session of their own.

    `bus` must take LETTERS_INBOUND_SPARE unacknowledged messages more than are kept. PUBACKs go out in the order of
    arrival. A letter that is dropped behind an older one that is kept is therefore acknowledged only with that one:
    after a reconnect it is recognised and stays dropped, after a restart of this process it is listed again. To re-send
    it once more does no harm: what it brings about has an identity.
    """

    def __init__(self, bus: Bus, topics: Topics, metrics: LetterMetrics, kept: int = LETTERS_KEPT) -> None:
        self._bus = bus
        self._topics = topics
        self._metrics = metrics
        self._kept = kept
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._dropped: OrderedDict[str, None] = OrderedDict()
        # What the broker counts as unacknowledged: from the oldest letter that is kept on, dropped ones included.
        self._unacknowledged: deque[str] = deque()
        metrics.held.set_function(self._held.__len__)

    async def run(self) -> None:
        """Collect until cancelled. BusError if the broker refuses at the start."""
        async with self._bus:
            await self._bus.subscribe(self._topics.dead_letter("+"))
            async for event in self._bus.events():
                if isinstance(event, Connected):
                    # What is unacknowledged comes again, with acknowledgements that count.
                    self._unacknowledged.clear()
                    for held in self._held.values():
                        held.acks.clear()
                else:
                    self._take(event)

    def newest_first(self, service: str | None = None) -> list[Letter]:
        """What is kept, of one service or of all."""
        letters = (held.letter for held in reversed(self._held.values()))
        return [letter for letter in letters if service is None or letter.service == service]

    async def resend(self, letter_id: str) -> Letter:
        """Publish the message of a letter on its topic again, and drop the letter once the broker has it.

        KeyError if there is no such letter, NotResendableError if it cannot be sent, BrokerAwayError if that cannot be
        done now.
        """
        letter = self._held[letter_id].letter
        payload = self._sendable(letter)
        if not self._bus.connected:
            raise BrokerAwayError("the broker is not connected")
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await (await self._bus.publish(letter.content.topic, payload))
        except (TimeoutError, BusClosedError):
            raise BrokerAwayError("the broker has not confirmed the message in time; it may still get it") from None
        except (BusError, ValueError) as error:
            raise NotResendableError(str(error)) from None
        log.info("dead-letter.resent", id=letter.id, topic=letter.content.topic)
        self._end(letter_id, "resent")
        return letter

    def drop(self, letter_id: str) -> Letter:
        """Forget a letter; KeyError if there is none."""
        letter = self._held[letter_id].letter
        self._end(letter_id, "dropped")
        return letter

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

    def _sendable(self, letter: Letter) -> bytes:
        if letter.truncated:
            raise NotResendableError(f"expected a letter with the whole message, got one that {letter.content.reason}")
        try:
            first = self._topics.split(letter.content.topic)[0]
        except TopicError as error:
            raise NotResendableError(str(error)) from None
        if first not in _RESENDABLE:
            raise NotResendableError(
                f"expected a message of {', '.join(_RESENDABLE)}, got one of {letter.content.topic!r}"
            )
        return _bytes_of(letter.content.payload)


def _bytes_of(text: str) -> bytes:
    """The payload that a letter's text stands for (`ingress_common.payloads.dead_letter`)."""
    prefix = "base64:"
    if text.startswith(prefix):
        try:
            return base64.b64decode(text.removeprefix(prefix), validate=True)
        except binascii.Error:
            # A text that only looks like it.
            return text.encode()
    return text.encode()
