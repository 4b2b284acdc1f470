"""The subscriptions of one connection: what was sent for each symbol, and Kraken's responses.

Pure; times are steady seconds unless stated otherwise.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from ingress_common.backoff import Backoff
from kraken_gateway.kraken.protocol import CHUNK

RESPONSE_SECONDS = 5.0
"""After this time without ack or snapshot a symbol is resubscribed."""

RETRY_REJECTED_SECONDS = 600.0
"""A rejected symbol is retried after this time: pairs can appear."""

LEAVE_SECONDS = 2.0
"""How long a symbol that is not wanted any more stays subscribed: its last updates may be on their way."""

READABLE_SECONDS = 10.0
"""After an unreadable row the rows of its symbol must be readable for this time before it is resubscribed."""

UNREADABLE_SECONDS = 20.0
"""A symbol without any row since the unreadable one is resubscribed after this time: it may not have traded."""

_RETRY_OTHER_SECONDS = 60.0
# As an unreadable row: a symbol returns within half a minute after a fault, however long that lasted.
_RESPONSE = Backoff(RESPONSE_SECONDS, UNREADABLE_SECONDS)


class Stage(Enum):
    """The stage of a symbol's subscription."""

    WANTED = auto()
    """To be subscribed, not before its time."""
    SUBSCRIBING = auto()
    """Subscribe request sent; ack or snapshot is missing."""
    UNSUBSCRIBING = auto()
    """To be unsubscribed, or unsubscribe sent; subscribed anew after that."""
    LIVE = auto()
    """Acked, and its snapshot is on the bus."""
    REJECTED = auto()
    """Kraken rejects it."""


_SUBSCRIBED = (Stage.SUBSCRIBING, Stage.LIVE, Stage.UNSUBSCRIBING)


@dataclass(slots=True)
class _Symbol:
    name: str
    stage: Stage = Stage.WANTED
    due: float = 0.0
    req_id: int | None = None
    acked: bool = False
    oldest: float | None = None
    sent_at: float = 0.0
    tries: int = 0
    broken_at: float = float("-inf")
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Send a subscribe for `symbols`."""

    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Send an unsubscribe for `symbols`."""

    symbols: tuple[str, ...]


class Subscriptions:
    """The symbols of one connection. Pass it Kraken's responses, and send what `next_request` returns.

    `version` rises with every change of live or rejected symbols.
    """

    def __init__(self) -> None:
        self.version = 0
        self._symbols: dict[str, _Symbol] = {}
        self._pending: dict[str, _Symbol] = {}
        self._leaving: dict[str, float] = {}
        self._left: set[str] = set()

    # --- what is wanted ---

    def want(self, symbols: Collection[str], rejected: Mapping[str, tuple[str, float]], now: float) -> None:
        """Carry `symbols` from now on. `rejected`: reason and time of the next try of those rejected before."""
        for name in [s for s in self._symbols if s not in symbols]:
            self._pending.pop(name, None)
            if self._symbols.pop(name).stage in _SUBSCRIBED:
                self._leaving[name] = now + LEAVE_SECONDS
            self._left.add(name)
        for name in sorted(s for s in symbols if s not in self._symbols):
            entry = self._symbols[name] = _Symbol(name, due=now)
            self._left.discard(name)
            stage = Stage.WANTED
            if name in rejected:
                stage = Stage.REJECTED
                entry.reason, entry.due = rejected[name]
            elif self._leaving.pop(name, None) is not None:
                # It is still subscribed; Kraken sends a second snapshot only after an unsubscribe.
                stage = Stage.UNSUBSCRIBING
            self._move(entry, stage)
        self.version += 1

    def carries(self, symbol: str) -> bool:
        """Whether rows of `symbol` are expected."""
        return symbol in self._symbols or symbol in self._leaving

    def has_left(self, symbol: str) -> bool:
        """Whether `symbol` was carried here before, so that its rows may still arrive."""
        return symbol in self._left

    # --- Kraken's responses ---

    def on_ack(self, symbol: str, method: str, now: float) -> None:
        """Note that Kraken has accepted a subscription or its end."""
        entry = self._symbols.get(symbol)
        if entry is None:
            return
        if method == "unsubscribe":
            if entry.stage is Stage.UNSUBSCRIBING:
                entry.due, entry.req_id = now, None
                self._move(entry, Stage.WANTED)
        elif entry.stage is Stage.SUBSCRIBING:
            entry.acked, entry.reason = True, ""
            entry.due = max(entry.due, now + RESPONSE_SECONDS)
            self._complete(entry)

    def on_update(self, symbol: str, now: float) -> None:
        """Note a readable row of `symbol`. It has traded, so if it lacks a snapshot it can get one."""
        entry = self._pending.get(symbol)
        if entry is None:
            return
        if entry.stage is Stage.SUBSCRIBING and entry.sent_at + RESPONSE_SECONDS <= now:
            entry.due = now
        elif entry.stage is Stage.UNSUBSCRIBING and entry.req_id is None:
            entry.due = min(entry.due, max(now, entry.broken_at + READABLE_SECONDS))

    def on_refusal(self, req_id: int | None, symbol: str | None, error: str, now: float) -> tuple[str, ...]:
        """Process a refused request; returns the symbols that Kraken rejects."""
        found = [entry for entry in self._pending.values() if _meant(entry, req_id, symbol)]
        rejected = []
        for entry in found:
            if entry.stage is Stage.UNSUBSCRIBING:
                # It is not subscribed, or cannot be unsubscribed: a new subscribe shows which.
                entry.due = now
                self._move(entry, Stage.WANTED)
            elif error.startswith("Already subscribed"):
                self._already_subscribed(entry, now)
            else:
                wait = RETRY_REJECTED_SECONDS if error.startswith("Currency pair") else _RETRY_OTHER_SECONDS
                entry.reason, entry.due = error, now + wait
                self._move(entry, Stage.REJECTED)
                rejected.append(entry.name)
        return tuple(rejected)

    def on_snapshot(self, symbol: str, oldest: float) -> None:
        """Note that the snapshot of `symbol` is on the bus; its oldest row opened at `oldest` (unix seconds)."""
        entry = self._symbols.get(symbol)
        if entry is not None and entry.stage is Stage.SUBSCRIBING:
            entry.oldest = oldest
            self._complete(entry)

    def on_broken(self, symbol: str, now: float) -> None:
        """Note an unreadable row of `symbol`: its data is lost, so it is not covered until it has a new snapshot.

        It stays subscribed without one while its rows are unreadable: what follows a snapshot would be lost, too.
        """
        entry = self._symbols.get(symbol)
        if entry is None or (entry.stage is Stage.UNSUBSCRIBING and entry.req_id is not None):
            return
        if entry.stage in (Stage.SUBSCRIBING, Stage.LIVE, Stage.UNSUBSCRIBING):
            entry.broken_at = now
            self._resubscribe(entry, now + UNREADABLE_SECONDS)

    def resubscribe(self, symbol: str, now: float) -> None:
        """Unsubscribe `symbol` and subscribe it at once, to get a new snapshot."""
        entry = self._symbols.get(symbol)
        if entry is not None and entry.stage is Stage.LIVE:
            self._resubscribe(entry, now)

    def retry(self, symbols: Collection[str], now: float) -> None:
        """Resubscribe at once those of `symbols` that Kraken has rejected."""
        for symbol in symbols:
            entry = self._symbols.get(symbol)
            if entry is not None and entry.stage is Stage.REJECTED:
                entry.due = now

    def on_rate_exceeded(self, now: float) -> None:
        """Retry the requests that have no response after a pause, because Kraken ignores requests."""
        for entry in self._pending.values():
            if entry.stage in (Stage.SUBSCRIBING, Stage.UNSUBSCRIBING) and not entry.acked:
                entry.due = min(entry.due, now + RESPONSE_SECONDS)

    # --- what to send ---

    def next_request(self, now: float) -> Subscribe | Unsubscribe | None:
        """The next request to send, if one is due."""
        if leaving := tuple(symbol for symbol, due in self._leaving.items() if due <= now)[:CHUNK]:
            for symbol in leaving:
                del self._leaving[symbol]
            return Unsubscribe(leaving)
        if not self._pending:
            return None
        self._expire(now)
        if ending := self._due(now, Stage.UNSUBSCRIBING):
            return Unsubscribe(ending)
        if wanted := self._due(now, Stage.WANTED):
            return Subscribe(wanted)
        return None

    def sent(self, request: Subscribe | Unsubscribe, req_id: int, now: float) -> None:
        """Note that `request` was sent as `req_id`."""
        for symbol in request.symbols:
            entry = self._symbols.get(symbol)
            if entry is None:
                continue
            entry.req_id = req_id
            if isinstance(request, Subscribe):
                entry.acked, entry.oldest, entry.sent_at = False, None, now
                entry.due = now + _RESPONSE.pause(entry.tries)
                entry.tries += 1
                self._move(entry, Stage.SUBSCRIBING)
            else:
                entry.due = now + RESPONSE_SECONDS
                self._move(entry, Stage.UNSUBSCRIBING)

    def next_due(self) -> float:
        """When the next request may be due (steady seconds)."""
        return min((*self._leaving.values(), *(entry.due for entry in self._pending.values())), default=float("inf"))

    # --- how it stands ---

    def live(self) -> dict[str, float]:
        """The symbols that can be covered, and since when (unix seconds): the open of the oldest row."""
        return {s: e.oldest for s, e in self._symbols.items() if e.stage is Stage.LIVE and e.oldest is not None}

    def is_live(self, symbol: str) -> bool:
        """Whether `symbol` is subscribed and has its snapshot."""
        entry = self._symbols.get(symbol)
        return entry is not None and entry.stage is Stage.LIVE

    def rejected(self) -> dict[str, tuple[str, float]]:
        """The rejected symbols with Kraken's reason and the time of the next try."""
        return {s: (e.reason, e.due) for s, e in self._pending.items() if e.reason}

    def all_rejected(self) -> bool:
        """Whether every symbol of this connection is rejected."""
        return (
            not self._leaving
            and len(self._pending) == len(self._symbols)
            and all(entry.stage is Stage.REJECTED for entry in self._pending.values())
        )

    # --- inside ---

    def _move(self, entry: _Symbol, stage: Stage) -> None:
        if Stage.LIVE in (entry.stage, stage) or Stage.REJECTED in (entry.stage, stage):
            self.version += 1
        entry.stage = stage
        if stage is Stage.LIVE:
            self._pending.pop(entry.name, None)
        else:
            self._pending[entry.name] = entry

    def _resubscribe(self, entry: _Symbol, due: float) -> None:
        entry.due, entry.acked, entry.oldest, entry.req_id = due, False, None, None
        self._move(entry, Stage.UNSUBSCRIBING)

    def _expire(self, now: float) -> None:
        for entry in list(self._pending.values()):
            if entry.due > now:
                continue
            if entry.stage is Stage.SUBSCRIBING:
                # Acknowledged without a snapshot: unsubscribe to get one. Not acknowledged: resubscribe.
                entry.req_id = None
                self._move(entry, Stage.UNSUBSCRIBING if entry.acked else Stage.WANTED)
            elif entry.stage is Stage.UNSUBSCRIBING and entry.req_id is not None:
                entry.req_id = None
                self._move(entry, Stage.WANTED)
            elif entry.stage is Stage.REJECTED:
                entry.tries = 0
                self._move(entry, Stage.WANTED)

    def _due(self, now: float, stage: Stage) -> tuple[str, ...]:
        found = (
            s
            for s, e in self._pending.items()
            if e.stage is stage and e.due <= now and not (stage is Stage.UNSUBSCRIBING and e.req_id is not None)
        )
        return tuple(sorted(found)[:CHUNK])

    def _already_subscribed(self, entry: _Symbol, now: float) -> None:
        if entry.oldest is not None:
            entry.acked = True
            self._complete(entry)
        else:
            entry.due, entry.req_id = now, None
            self._move(entry, Stage.UNSUBSCRIBING)

    def _complete(self, entry: _Symbol) -> None:
        if entry.stage is Stage.SUBSCRIBING and entry.acked and entry.oldest is not None:
            entry.tries = 0
            self._move(entry, Stage.LIVE)


def _meant(entry: _Symbol, req_id: int | None, symbol: str | None) -> bool:
    if entry.stage not in (Stage.SUBSCRIBING, Stage.UNSUBSCRIBING) or entry.acked:
        return False
    if symbol is not None:
        # Without a req_id, use the symbol (fact 8 has frames with either).
        return entry.name == symbol and req_id in (None, entry.req_id)
    return req_id is not None and req_id == entry.req_id
