"""The desk where messages for the gateway arrive: requests, and the presence of other gateways."""

import asyncio
from collections.abc import Awaitable, Callable

from ingress_common.bus import Bus, BusError, Connected, Message
from ingress_common.logs import get_logger
from ingress_common.membership import Members
from ingress_common.model import HistoryRequest, SeedRequest, Status
from ingress_common.payloads import PayloadError, decode_history_request, decode_seed_request, decode_status_on
from ingress_common.presence import StatusPublisher
from ingress_common.topics import Topics
from kraken_gateway.history.bounds import RequestRefusedError, check
from kraken_gateway.history.requests import HistoryRequests
from kraken_gateway.history.seeds import Seeds
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import Outlet

_EARLY_LIMIT = 200

log = get_logger(__name__)


class Desk:
    """Hands messages on. Requests that come before it is known whose symbols are whose wait until `open`."""

    def __init__(
        self,
        topics: Topics,
        members: Members,
        status: StatusPublisher,
        seeds: Seeds,
        history: HistoryRequests,
        outlet: Outlet,
        metrics: GatewayMetrics,
        members_changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._topics = topics
        self._members = members
        self._status = status
        self._seeds = seeds
        self._history = history
        self._outlet = outlet
        self._metrics = metrics
        self._members_changed = members_changed
        self._clock = clock
        self._opened = asyncio.Event()
        self._early: list[tuple[Message, SeedRequest | HistoryRequest]] = []
        # Bounded by what the bus lets in unacknowledged.
        self._refused: asyncio.Queue[tuple[Callable[[], None], Awaitable[None]]] = asyncio.Queue()

    def open(self) -> None:
        """Whose symbols are whose is known: act on what has waited, and on requests at once from now on."""
        self._opened.set()

    async def listen(self, bus: Bus) -> None:
        """Take messages until cancelled."""
        topics = self._topics
        await bus.subscribe(self._members.filter, topics.seed_requests(), topics.history_requests())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._catch_up(), name="desk.early")
            tasks.create_task(self._acknowledge_refused(), name="desk.refused")
            async for event in bus.events():
                if isinstance(event, Connected):
                    self._members.reconnected()
                    self._status.announce()
                else:
                    await self._take(event)

    async def _catch_up(self) -> None:
        await self._opened.wait()
        early, self._early = self._early, []
        for message, request in early:
            await self._hand_on(message, request)

    async def _take(self, message: Message) -> None:
        try:
            request = self._request_in(message)
            if request is None:
                if message.payload:
                    self._present(decode_status_on(message.topic, message.payload), retained=message.retain)
                message.ack()
                return
            check(request, self._clock())
        except (PayloadError, RequestRefusedError) as error:
            await self._refuse(message, error)
            return
        if self._opened.is_set() or len(self._early) >= _EARLY_LIMIT:
            await self._hand_on(message, request)
        else:
            self._early.append((message, request))

    def _present(self, status: Status, *, retained: bool) -> None:
        if not retained:
            self._status.heard(status)
        if self._members.update(status):
            self._members_changed()

    def _request_in(self, message: Message) -> SeedRequest | HistoryRequest | None:
        if message.topic == self._topics.seed_requests():
            return decode_seed_request(message.payload)
        if message.topic == self._topics.history_requests():
            return decode_history_request(message.payload)
        return None

    async def _hand_on(self, message: Message, request: SeedRequest | HistoryRequest) -> None:
        if isinstance(request, SeedRequest):
            self._seeds.request(request.symbols, message.ack)
            return
        try:
            self._history.request(request, message.ack)
        except RequestRefusedError as error:
            await self._refuse(message, error)

    async def _refuse(self, message: Message, error: Exception) -> None:
        """A dead letter in place of an answer."""
        reason = str(error)
        if isinstance(error, RequestRefusedError):
            self._metrics.refused.inc()
        log.warning("message.rejected", topic=message.topic, reason=reason)
        delivery = await self._outlet.dead_letter(message.payload, reason, self._clock(), topic=message.topic)
        self._refused.put_nowait((message.ack, delivery))

    async def _acknowledge_refused(self) -> None:
        """Acknowledge what was refused once its dead letter is with the broker."""
        while True:
            acknowledge, delivery = await self._refused.get()
            try:
                await delivery
            except BusError as error:
                # The broker will never take this letter: the log has to do, or the message would come for ever.
                log.error("dead-letter.refused", reason=str(error))
            acknowledge()
