"""The desk where messages for the gateway arrive: requests, and the presence of other gateways."""

from collections.abc import Callable

from ingress_common.bus import Bus, Connected, Message
from ingress_common.logs import get_logger
from ingress_common.membership import Members
from ingress_common.model import HistoryRequest, SeedRequest, Status
from ingress_common.payloads import PayloadError, decode_history_request, decode_seed_request, decode_status_on
from ingress_common.presence import StatusPublisher
from ingress_common.topics import Topics
from kraken_gateway.history import HistoryRequests
from kraken_gateway.outlet import BusStalledError, Outlet
from kraken_gateway.seeds import Seeds

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
        members_changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._topics = topics
        self._members = members
        self._status = status
        self._seeds = seeds
        self._history = history
        self._outlet = outlet
        self._members_changed = members_changed
        self._clock = clock
        self._open = False
        self._early: list[tuple[SeedRequest | HistoryRequest, Callable[[], None]]] = []

    def open(self) -> None:
        """Whose symbols are whose is known: act on what has waited, and on requests at once from now on."""
        self._open = True
        early, self._early = self._early, []
        for request, ack in early:
            self._request(request, ack)

    async def listen(self, bus: Bus) -> None:
        """Take messages until cancelled."""
        topics = self._topics
        await bus.subscribe(self._members.filter, topics.seed_requests(), topics.history_requests())
        async for event in bus.events():
            if isinstance(event, Connected):
                self._members.reconnected()
                self._status.announce()
                continue
            try:
                self._take(event)
            except PayloadError as error:
                event.ack()
                await self._refuse(event, str(error))

    def _take(self, message: Message) -> None:
        request: SeedRequest | HistoryRequest
        if message.topic == self._topics.seed_requests():
            request = decode_seed_request(message.payload)
        elif message.topic == self._topics.history_requests():
            request = decode_history_request(message.payload)
        else:
            if message.payload:
                self._present(decode_status_on(message.topic, message.payload), retained=message.retain)
            message.ack()
            return
        if self._open or len(self._early) >= _EARLY_LIMIT:
            self._request(request, message.ack)
        else:
            self._early.append((request, message.ack))

    def _present(self, status: Status, *, retained: bool) -> None:
        if not retained:
            self._status.heard(status)
        if self._members.update(status):
            self._members_changed()

    def _request(self, request: SeedRequest | HistoryRequest, ack: Callable[[], None]) -> None:
        if isinstance(request, SeedRequest):
            self._seeds.request(request.symbols, ack)
        else:
            self._history.request(request, ack)

    async def _refuse(self, message: Message, reason: str) -> None:
        log.warning("message.rejected", topic=message.topic, reason=reason)
        try:
            await self._outlet.dead_letter(message.payload, reason, self._clock(), topic=message.topic)
        except BusStalledError as error:
            log.warning("message.rejection-unheard", topic=message.topic, detail=str(error))
