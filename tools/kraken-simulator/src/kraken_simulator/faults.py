"""The kinds of faults, and the running faults."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType

KINDS = MappingProxyType(
    {
        "eof": "drops the connections (of the symbol) once: TCP ends without a close frame",
        "close_1001": "drops the connections (of the symbol) once: close 1001 'CloudFlare WebSocket proxy restarting'",
        "rst": "drops the connections (of the symbol) once: TCP reset",
        "close_1008": "drops the connections (of the symbol) once: close 1008 'policy violation', after which a client "
        "should not reconnect at once",
        "silent": "acks subscriptions, then sends nothing, not even heartbeats; also on new connections unless "
        "new_connections is false. With a symbol: the connections subscribed to it",
        "blind": "heartbeats, but no data of the symbol (default: of all) on the connections open at the start, and on "
        "new ones if new_connections is true; trading goes on, the frames are lost",
        "half_open": "the sockets (of the symbol) stay open, but nothing is read or sent; new ones too if "
        "new_connections is true. They are reset at the end",
        "msg_rate": 'responds to every WebSocket request with {"Error":"Exceeded msg rate"} and ignores it',
        "http_429": "refuses new WebSocket connections with HTTP 429",
        "maintenance": "status maintenance, no trading, REST responds EService:Unavailable; online at the end",
        "cancel_only": "status cancel_only, no trading; online at the end",
        "post_only": "status post_only, no trading; online at the end",
        "unlisted": "the pair (default: every pair) does not exist: instrument update delisted, no trading, its "
        "subscriptions are silent and new ones refused, REST responds EQuery:Unknown asset pair; relisted at the "
        "end, with an instrument update online",
        "late_frame": "delays the frames of an interval's last 20 s; the last of them is sent 2 s after its "
        "end, after frames of the next interval",
        "duplicate": "sends every snapshot and update twice",
        "many_rows": "sends updates with two rows: the previous candle and the current one",
        "revised_snapshot": "a trade that moves the high becomes known late: at the end, after its minute, snapshots "
        "and REST include it, and subscribed connections are reset, so a snapshot follows",
        "rest_revision": "a trade that moves the high becomes known late: REST rows change after the close; "
        "connections continue",
        "outage": "everything is refused: connections are dropped and get 503, REST responds EService:Unavailable; "
        "trading goes on",
        "rest_down": "REST responds HTTP 503 with an HTML page",
        "rest_slow": "REST responds 10 s late (or when the fault ends)",
        "rest_limit": "REST responds EGeneral:Too many requests",
        "not_json": "a text frame that is not JSON, once a second on every connection",
        "unknown_message": "a message of an unknown channel, once a second on every connection",
        "status_frames": "the status frame once a second on every connection",
        "throttled": "REST responds EService:Throttled: and the fault's end in unix seconds",
        "string_numbers": "candle rows with their prices and volumes as strings",
        "float_interval": "candle rows with interval 1.0 instead of 1",
        "empty_last": "REST Trades returns an empty string as last if there are no trades",
        "asked_key": "REST results are keyed by the requested name instead of the pair's key",
        "no_status": "AssetPairs rows of every seventh pair have no status",
    }
)
"""Every kind of fault with its description."""

ONE_SHOT = frozenset({"eof", "close_1001", "close_1008", "rst"})
"""Faults without duration."""

CHANGES = MappingProxyType(
    {
        "list": "a new pair begins to trade, without a past; or a delisted one is relisted",
        "delist": "the pair leaves the exchange, as in unlisted",
        "rename": "the pair continues under the name `to`; the old name no longer exists",
        "reprecision": "the pair trades with other price_decimals or qty_decimals from now on",
        "status": "the pair gets another status; cancel_only, maintenance and work_in_progress stop its trading",
    }
)
"""Changes of a pair with their descriptions: permanent without `seconds`, else reverted at the end."""

CHANGE_FIELDS = MappingProxyType(
    {
        "list": frozenset({"price_decimals", "qty_decimals", "status", "trades_per_minute", "price"}),
        "delist": frozenset[str](),
        "rename": frozenset({"to"}),
        "reprecision": frozenset({"price_decimals", "qty_decimals"}),
        "status": frozenset({"status"}),
    }
)
"""The fields of each change besides `symbol` and `seconds`."""

PAIR_STATUSES = (
    "online",
    "limit_only",
    "post_only",
    "reduce_only",
    "cancel_only",
    "maintenance",
    "work_in_progress",
)
"""The possible statuses of a listed pair; new listings begin in limit_only."""

HALTED_STATUSES = frozenset({"cancel_only", "maintenance", "work_in_progress"})
"""Statuses in which a pair does not trade."""

SYSTEM_STATES = ("maintenance", "cancel_only", "post_only")
"""Engine states other than online, by precedence."""

MAX_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault from `started` until `until` (unix seconds; infinite if permanent). `symbol` None means all symbols.

    `connections`: number of the last connection before its start. `unseen`: symbols and times (unix nanoseconds) of
    trades to reveal at its end. `undo`: the change that reverts a change of a pair at its end.
    """

    number: int
    kind: str
    symbol: str | None
    started: float
    until: float
    new_connections: bool
    connections: int = 0
    unseen: tuple[tuple[str, int], ...] = ()
    undo: "FaultRequest | None" = None

    def concerns(self, symbol: str) -> bool:
        """Return whether the fault acts on a symbol."""
        return self.symbol in (None, symbol)

    def reaches(self, connection: int) -> bool:
        """Return whether the fault acts on the connection with this number."""
        return self.new_connections or connection <= self.connections


class FaultBoard:
    """The running faults."""

    def __init__(self) -> None:
        self._running: tuple[Fault, ...] = ()
        self._numbers = count(1)

    @property
    def running(self) -> tuple[Fault, ...]:
        """The running faults, oldest first."""
        return self._running

    def next_number(self) -> int:
        """Return the number of the next fault."""
        return next(self._numbers)

    def add(self, fault: Fault) -> None:
        """Add a running fault."""
        self._running = (*self._running, fault)

    def take(self, over: Callable[[Fault], bool]) -> tuple[Fault, ...]:
        """Remove and return the faults for which `over` is true."""
        ended = tuple(fault for fault in self._running if over(fault))
        if ended:
            self._running = tuple(fault for fault in self._running if fault not in ended)
        return ended

    def of(self, *kinds: str) -> Iterable[Fault]:
        """Return the running faults of some kinds."""
        return (fault for fault in self._running if fault.kind in kinds)

    def on(self, kind: str) -> bool:
        """Return whether a fault of a kind runs."""
        return any(fault.kind == kind for fault in self._running)

    def on_symbol(self, kind: str, symbol: str) -> bool:
        """Return whether a fault of a kind acts on a symbol."""
        return any(fault.kind == kind and fault.concerns(symbol) for fault in self._running)

    @property
    def system(self) -> str:
        """The state of the trading engine, as in status frames."""
        return next((state for state in SYSTEM_STATES if self.on(state)), "online")


@dataclass(frozen=True, slots=True)
class FaultRequest:
    """A requested fault. `new_connections` None: the kind's default. `seconds` None: 30.

    The other fields are for changes of a pair; None keeps the current value or takes the default.
    """

    kind: str
    symbol: str | None = None
    seconds: float | None = None
    new_connections: bool | None = None
    to: str | None = None
    status: str | None = None
    price_decimals: int | None = None
    qty_decimals: int | None = None
    trades_per_minute: float | None = None
    price: float | None = None
