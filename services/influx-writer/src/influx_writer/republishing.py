"""Requests to the aggregator to republish closed candles, repeated until they arrive."""

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ingress_common.backoff import Backoff
from ingress_common.bus import Bus
from ingress_common.logs import get_logger
from ingress_common.model import RepublishRequest
from ingress_common.payloads import encode_republish_request
from ingress_common.sequence import REQUEST
from ingress_common.topics import Topics

_TOGETHER_SECONDS = 600.0
"""Requests whose ranges begin within the same span of this length are sent as one."""

_NAMES = 15

log = get_logger(__name__)


@dataclass(slots=True)
class _Wanted:
    """The candles wanted of a symbol, `at` from `start` to `end` (unix seconds); `due`: when to request (steady clock).

    `names`: the requests sent for them; a response to any of these is enough, however late.
    """

    start: float
    end: float
    due: float
    names: list[str] = field(default_factory=list)


class Republishing:
    """The requests of one writer. Each is repeated with `backoff` until its response is stored.

    `steady` is a monotonic clock; `sent` is called for each message.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        steady: Callable[[], float],
        backoff: Backoff,
        sent: Callable[[], None],
    ) -> None:
        self._sent = sent
        self._bus = bus
        self._topic = topics.republish_requests()
        self._steady = steady
        self._backoff = backoff
        self._wanted: dict[str, _Wanted] = {}

    def want(self, symbol: str, start: float, end: float) -> None:
        """Request the closed candles of `symbol` with `at` in [start, end], and those already wanted."""
        before = self._wanted.get(symbol)
        if before is not None:
            start, end = min(start, before.start), max(end, before.end)
        self._wanted[symbol] = _Wanted(start, end, self._steady())

    def done(self, symbol: str, name: str) -> bool:
        """Note that the last candle of the response to request `name` is stored. Returns whether nothing more is
        wanted.
        """
        wanted = self._wanted.get(symbol)
        if wanted is None or name not in wanted.names:
            return False
        del self._wanted[symbol]
        return True

    def forget(self, symbol: str) -> None:
        """Forget `symbol`, which another writer owns now."""
        self._wanted.pop(symbol, None)

    @property
    def due(self) -> list[str]:
        """The symbols whose request is due."""
        now = self._steady()
        return [symbol for symbol, wanted in self._wanted.items() if wanted.due <= now]

    async def send(self, symbols: Collection[str]) -> None:
        """Send the requests of `symbols`."""
        together: dict[float, list[str]] = {}
        for symbol in symbols:
            together.setdefault(self._wanted[symbol].start // _TOGETHER_SECONDS, []).append(symbol)
        for group in together.values():
            name = secrets.token_hex(8)
            wanted = [self._wanted[symbol] for symbol in group]
            start, end = min(one.start for one in wanted), max(one.end for one in wanted)
            for one in wanted:
                one.due = self._steady() + self._backoff.pause(len(one.names))
                one.names = [*one.names[-_NAMES:], name]
            log.info("republish.requested", symbols=len(group), attempt=max(len(one.names) for one in wanted))
            request = RepublishRequest(tuple(group), start, end)
            await self._bus.publish(self._topic, encode_republish_request(request), properties={REQUEST: name})
            self._sent()
