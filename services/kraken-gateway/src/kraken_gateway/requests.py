"""The gateway's incoming messages: requests, and the status of other gateways."""

import asyncio
from collections.abc import Callable

from ingress_common.bus import Bus, Connected, Message
from ingress_common.dead_letters import was_delivered
from ingress_common.heartbeat import StatusPublisher
from ingress_common.logs import get_logger
from ingress_common.membership import Members
from ingress_common.model import HistoryRequest, SeedRequest, Status
from ingress_common.payloads import PayloadError, decode_history_request, decode_seed_request, decode_status_on
from ingress_common.topics import Topics
from kraken_gateway.backfill.backfill import Backfill
from kraken_gateway.backfill.ranges import RequestRefusedError, check
from kraken_gateway.backfill.seeds import Seeds
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.publisher import Publisher

_EARLY_LIMIT = 200

log = get_logger(__name__)


class RequestConsumer:
    """Accepts requests and acknowledges them at once: a sender repeats a request that a crash lost.

    Requests that arrive before the owners of symbols are known wait, unacknowledged, for `open`.
    """

    def __init__(
        self,
        topics: Topics,
        members: Members,
        status: StatusPublisher,
        seeds: Seeds,
        backfill: Backfill,
        publisher: Publisher,
        metrics: GatewayMetrics,
        members_changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._topics = topics
        self._members = members
        self._status = status
        self._seeds = seeds
        self._backfill = backfill
        self._publisher = publisher
        self._metrics = metrics
        self._members_changed = members_changed
        self._clock = clock
        self._opened = False
        self._early: list[Message] = []
        # Bounded by the bus's limit of unacknowledged messages.
        self._refused: asyncio.Queue[tuple[Message, str]] = asyncio.Queue()

    def open(self) -> None:
        """The owners of symbols are known: process the waiting requests, and new ones at once."""
        self._opened = True
        early, self._early = self._early, []
        for message in early:
            self._take(message)

    async def run(self, bus: Bus) -> None:
        """Receive messages until cancelled."""
        topics = self._topics
        await bus.subscribe(self._members.filter, topics.seed_requests(), topics.history_requests())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._dead_letter_refused(), name="requests.refused")
            async for event in bus.events():
                if isinstance(event, Connected):
                    self._members.reconnected()
                    self._status.announce()
                else:
                    self._take(event)

    def _take(self, message: Message) -> None:
        try:
            request = self._request_in(message)
            if request is None:
                if message.payload:
                    self._note(decode_status_on(message.topic, message.payload), retained=message.retain)
            elif not self._opened and len(self._early) < _EARLY_LIMIT:
                self._early.append(message)
                return
            else:
                self._hand_on(request)
        except (PayloadError, RequestRefusedError) as error:
            if isinstance(error, RequestRefusedError):
                self._metrics.requests_refused.inc()
            log.warning("message.rejected", topic=message.topic, reason=str(error))
            self._refused.put_nowait((message, str(error)))
            return
        message.ack()

    def _request_in(self, message: Message) -> SeedRequest | HistoryRequest | None:
        if message.topic == self._topics.seed_requests():
            return decode_seed_request(message.payload)
        if message.topic == self._topics.history_requests():
            return decode_history_request(message.payload)
        return None

    def _hand_on(self, request: SeedRequest | HistoryRequest) -> None:
        check(request, self._clock())
        if isinstance(request, SeedRequest):
            self._seeds.request(request.symbols)
        else:
            self._backfill.request(request)

    def _note(self, status: Status, *, retained: bool) -> None:
        if not retained:
            self._status.received(status)
        if self._members.update(status):
            self._members_changed()

    async def _dead_letter_refused(self) -> None:
        """Send a dead letter; the message is acknowledged once the broker has confirmed it."""
        while True:
            message, reason = await self._refused.get()
            topic = message.topic
            await was_delivered(await self._publisher.dead_letter(message.payload, reason, self._clock(), topic), topic)
            message.ack()
