"""What the parts of the reconciler have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from admin_api.system.state import SystemState
from ingress_common.bus import Bus
from ingress_common.model import HistoryRequest, Range
from ingress_common.payloads import encode_history_request
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from ingress_store import CandleStore


@dataclass(frozen=True, slots=True)
class Context:
    """The bus, the store, and the state of the system.

    `owns`: whether a symbol is this instance's, among several of admin-api. `live`: the symbols of live feeds, with
    their start. `clock`, and every time, in unix seconds.
    """

    bus: Bus
    topics: Topics
    store: CandleStore
    state: SystemState
    owns: Callable[[str], bool]
    live: Callable[[], Mapping[str, float]]
    clock: Callable[[], float]

    async def request_history(self, symbol: str, timeframe: Timeframe, span: Range) -> None:
        """Request candles from a gateway, and wait until the broker has confirmed it; BusError, BusClosedError."""
        request = encode_history_request(HistoryRequest((symbol,), timeframe, span.start, span.end))
        await (await self.bus.publish(self.topics.history_requests(), request))
