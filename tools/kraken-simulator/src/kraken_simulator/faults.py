"""The faults that can be asked for, and which of them are running."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType

from kraken_simulator.errors import FaultError
from kraken_simulator.tape import Trade

KINDS = MappingProxyType(
    {
        "eof": "drops the connections (of the symbol) once: TCP ends without a close frame",
        "close_1001": "drops the connections (of the symbol) once: close 1001 'CloudFlare WebSocket proxy restarting'",
        "rst": "drops the connections (of the symbol) once: TCP reset",
        "silent": "acks subscriptions, then sends nothing at all, no heartbeat either; also on new connections unless "
        "new_connections is false. With a symbol: the connections subscribed to it",
        "blind": "heartbeats, but no data of the symbol (default: of all) on the connections open at the start, and on "
        "new ones if new_connections is true; trading goes on, the frames are lost",
        "half_open": "the sockets (of the symbol) stay open, but nothing is read or sent; new ones too if "
        "new_connections is true. They are reset at the end",
        "msg_rate": 'answers every WebSocket request with {"Error":"Exceeded msg rate"} and ignores it',
        "http_429": "refuses new WebSocket connections with HTTP 429",
        "maintenance": "status maintenance, no trading, REST answers EService:Unavailable; online again at the end",
        "cancel_only": "status cancel_only, no trading; online again at the end",
        "post_only": "status post_only, no trading; online again at the end",
        "unlisted": "the pair (default: every pair) does not exist: instrument update delisted, no trading, its "
        "subscriptions are silent and new ones refused, REST answers EQuery:Unknown asset pair; listed again at the "
        "end, with an instrument update online",
        "late_frame": "holds back the frames of an interval's last 20 s; the last of them comes 2 s after its "
        "end, behind frames of the next one",
        "duplicate": "sends every snapshot and update twice",
        "many_rows": "sends updates of two rows: the candle before, and the current one",
        "revised_snapshot": "a trade that moves the high is known late: at the end, not before its minute is over, "
        "snapshots and REST have it, and the connections subscribed are reset, so a snapshot follows",
        "rest_revision": "a trade that moves the high is known late: REST rows change after the close; no "
        "connection is touched",
        "outage": "everything is refused: connections dropped and answered 503, REST answers EService:Unavailable; "
        "trading goes on",
        "rest_down": "REST answers HTTP 503 with an HTML page",
        "rest_slow": "REST answers 10 s late (or when the fault ends)",
        "rest_limit": "REST answers EGeneral:Too many requests",
        "not_json": "a text frame that is not JSON, once a second on every connection",
        "unknown_message": "a message of an unknown channel, once a second on every connection",
    }
)
"""Every kind of fault with its description."""

ONE_SHOT = frozenset({"eof", "close_1001", "rst"})
"""Faults that happen at once and are over."""

SYSTEM_STATES = ("maintenance", "cancel_only", "post_only")
"""Engine states other than online, the strongest first."""

MAX_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that runs from `started` until `until` (unix seconds); `symbol` None means all.

    `connections` had come before its start (they are numbered as they come); `unseen` are trades to reveal at its end.
    """

    number: int
    kind: str
    symbol: str | None
    started: float
    until: float
    new_connections: bool
    connections: int = 0
    unseen: tuple[tuple[str, Trade], ...] = ()

    def concerns(self, symbol: str) -> bool:
        """Say whether the fault acts on a symbol."""
        return self.symbol in (None, symbol)

    def reaches(self, connection: int) -> bool:
        """Say whether the fault acts on a connection by its number."""
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
        """Put a fault on the board."""
        self._running = (*self._running, fault)

    def take(self, over: Callable[[Fault], bool]) -> tuple[Fault, ...]:
        """Remove the faults that are over and return them."""
        ended = tuple(fault for fault in self._running if over(fault))
        if ended:
            self._running = tuple(fault for fault in self._running if fault not in ended)
        return ended

    def of(self, *kinds: str) -> Iterable[Fault]:
        """Give the running faults of some kinds."""
        return (fault for fault in self._running if fault.kind in kinds)

    def on(self, kind: str) -> bool:
        """Say whether a fault of a kind runs."""
        return any(fault.kind == kind for fault in self._running)

    def on_symbol(self, kind: str, symbol: str) -> bool:
        """Say whether a fault of a kind acts on a symbol."""
        return any(fault.kind == kind and fault.concerns(symbol) for fault in self._running)

    @property
    def system(self) -> str:
        """The state of the trading engine, as in status frames."""
        return next((state for state in SYSTEM_STATES if self.on(state)), "online")


@dataclass(frozen=True, slots=True)
class FaultRequest:
    """A fault as asked for; `new_connections` None takes the kind's own way."""

    kind: str
    symbol: str | None = None
    seconds: float = 30.0
    new_connections: bool | None = None


def parse_fault(body: object, symbols: Iterable[str]) -> FaultRequest:
    """Return the fault that a JSON body asks for; a `FaultError` says what is wrong with it."""
    if not isinstance(body, dict):
        message = 'expected a JSON object such as {"kind": "eof", "seconds": 5}'
        raise FaultError(message)
    unknown = set(body) - {"kind", "symbol", "seconds", "new_connections"}
    if unknown:
        message = (
            f"expected the fields kind, symbol, seconds and new_connections, was also {', '.join(sorted(unknown))}"
        )
        raise FaultError(message)
    kind, seconds, new = body.get("kind"), body.get("seconds"), body.get("new_connections")
    if not isinstance(kind, str) or kind not in KINDS:
        message = f"kind: expected one of {', '.join(KINDS)}, was {kind!r}"
        raise FaultError(message)
    seconds = 30.0 if seconds is None else seconds
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS:
        message = f"seconds: expected a number from 0 to {MAX_SECONDS:.0f}, was {seconds!r}"
        raise FaultError(message)
    if new is not None and not isinstance(new, bool):
        message = f"new_connections: expected true or false, was {new!r}"
        raise FaultError(message)
    return FaultRequest(kind, _symbol(body.get("symbol"), symbols), float(seconds), new)


def _symbol(text: object, symbols: Iterable[str]) -> str | None:
    if text is None:
        return None
    known = tuple(symbols)
    symbol = text.replace("-", "/") if isinstance(text, str) else text
    if not isinstance(symbol, str) or symbol not in known:
        names = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
        message = f"symbol: expected one of {names}, was {text!r}"
        raise FaultError(message)
    return symbol
