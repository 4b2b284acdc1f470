"""What is subscribed on one connection: who was asked for, acked, refused, seen.

Pure; times are steady seconds unless said otherwise.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from kraken_gateway.kraken.protocol import CHUNK

ANSWER_SECONDS = 5.0
"""After this time without ack or snapshot a symbol is asked for again."""

RETRY_REJECTED_SECONDS = 600.0
"""A rejected symbol is tried again after this time: pairs can appear."""

_RETRY_OTHER_SECONDS = 60.0
_CALM_SECONDS = 60.0
_MAX_PAUSE = 600.0


class Stage(Enum):
    """Where a symbol stands."""

    WANTED = auto()
    """To be asked for, not before its time."""
    ASKED = auto()
    """Subscribe sent; ack and snapshot have not both come."""
    RELEASING = auto()
    """Unsubscribe sent, to be asked for anew after that."""
    READY = auto()
    """Acked, and its snapshot is on the bus."""
    REJECTED = auto()
    """Kraken refuses it."""


@dataclass(slots=True)
class _Symbol:
    stage: Stage = Stage.WANTED
    due: float = 0.0
    req_id: int | None = None
    acked: bool = False
    oldest: float | None = None
    asked_at: float = 0.0
    tries: int = 0
    ready_at: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Send a subscribe for `symbols`."""

    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Send an unsubscribe for `symbols`."""

    symbols: tuple[str, ...]


@dataclass(slots=True)
class Subscriptions:
    """The symbols of one connection. Feed it with what Kraken says, and send what `next_request` asks for."""

    _symbols: dict[str, _Symbol] = field(default_factory=dict)
    _leaving: dict[str, None] = field(default_factory=dict)
    _left: set[str] = field(default_factory=set)

    # --- what is wanted ---

    def want(self, symbols: Collection[str], rejected: Mapping[str, tuple[str, float]], now: float) -> None:
        """Make `symbols` the ones wanted. `rejected`: reason and time of the next try of those refused before."""
        for symbol in [s for s in self._symbols if s not in symbols]:
            if self._symbols.pop(symbol).stage in (Stage.ASKED, Stage.READY, Stage.RELEASING):
                self._leaving[symbol] = None
            self._left.add(symbol)
        for symbol in sorted(s for s in symbols if s not in self._symbols):
            entry = self._symbols[symbol] = _Symbol(due=now)
            self._left.discard(symbol)
            if symbol in rejected:
                entry.stage = Stage.REJECTED
                entry.reason, entry.due = rejected[symbol]
            elif self._leaving.pop(symbol, "none") is None:
                # Still subscribed, and no second snapshot comes unless it is ended first.
                entry.stage = Stage.RELEASING

    def carries(self, symbol: str) -> bool:
        """Whether rows of `symbol` are to be taken."""
        return symbol in self._symbols

    def has_left(self, symbol: str) -> bool:
        """Whether `symbol` was wanted here before, so that rows of it are no surprise."""
        return symbol in self._left

    # --- what Kraken says ---

    def on_ack(self, symbol: str, method: str, now: float) -> None:
        """Kraken has accepted a subscription or its end."""
        entry = self._symbols.get(symbol)
        if entry is None:
            return
        if method == "unsubscribe":
            if entry.stage is Stage.RELEASING:
                entry.stage, entry.due, entry.req_id = Stage.WANTED, now, None
            return
        if entry.stage is Stage.ASKED:
            entry.acked, entry.reason = True, ""
            entry.due = max(entry.due, now + ANSWER_SECONDS)
            self._settle(entry, now)

    def on_update(self, symbol: str, now: float) -> None:
        """A row of `symbol` has come. If it is still without a snapshot, there is one to be had now: it has traded."""
        entry = self._symbols.get(symbol)
        if entry is not None and entry.stage is Stage.ASKED and entry.asked_at + ANSWER_SECONDS <= now:
            entry.due = now

    def on_refusal(self, req_id: int | None, symbol: str | None, error: str, now: float) -> tuple[str, ...]:
        """Kraken has refused a request; gives the symbols that count as rejected by it."""
        found = [s for s, e in self._symbols.items() if self._meant(s, e, req_id, symbol)]
        rejected = []
        for name in found:
            entry = self._symbols[name]
            if entry.stage is Stage.RELEASING:
                # Not subscribed, or it cannot be ended: asking anew tells.
                entry.stage, entry.due = Stage.WANTED, now
            elif error.startswith("Already subscribed"):
                self._already(entry, now)
            else:
                wait = RETRY_REJECTED_SECONDS if error.startswith("Currency pair") else _RETRY_OTHER_SECONDS
                entry.stage, entry.reason, entry.due = Stage.REJECTED, error, now + wait
                rejected.append(name)
        return tuple(rejected)

    def on_snapshot(self, symbol: str, oldest: float, now: float) -> None:
        """The snapshot of `symbol` is on the bus; its oldest row opened at `oldest` (unix seconds)."""
        entry = self._symbols.get(symbol)
        if entry is None or entry.stage is not Stage.ASKED:
            return
        entry.oldest = oldest
        self._settle(entry, now)

    def on_broken(self, symbol: str | None, now: float) -> None:
        """Something of `symbol` was lost: what was claimed of it no longer holds until it has a new snapshot."""
        entry = self._symbols.get(symbol) if symbol is not None else None
        if entry is None or entry.stage not in (Stage.ASKED, Stage.READY):
            return
        if entry.stage is Stage.READY and now - entry.ready_at > _CALM_SECONDS:
            entry.tries = 0
        entry.stage, entry.due = Stage.RELEASING, now + self._pause(entry)
        entry.acked, entry.oldest, entry.req_id = False, None, None

    def renew(self, symbol: str, now: float) -> None:
        """End the subscription of `symbol` and ask for it anew, at once, for the sake of a new snapshot."""
        entry = self._symbols.get(symbol)
        if entry is not None and entry.stage is Stage.READY:
            entry.stage, entry.due = Stage.RELEASING, now
            entry.acked, entry.oldest, entry.req_id = False, None, None

    def retry(self, symbols: Collection[str], now: float) -> None:
        """Ask at once for those of `symbols` that were refused."""
        for symbol in symbols:
            entry = self._symbols.get(symbol)
            if entry is not None and entry.stage is Stage.REJECTED:
                entry.due = now

    def on_ignored(self, now: float) -> None:
        """Kraken says that it ignores requests: whoever waits for an answer asks again, after a pause."""
        for entry in self._symbols.values():
            if entry.stage in (Stage.ASKED, Stage.RELEASING) and not entry.acked:
                entry.due = min(entry.due, now + ANSWER_SECONDS)

    # --- what to do ---

    def next_request(self, now: float) -> Subscribe | Unsubscribe | None:
        """The next request to send, if one is due."""
        self._expire(now)
        if leaving := tuple(self._leaving)[:CHUNK]:
            for symbol in leaving:
                del self._leaving[symbol]
            return Unsubscribe(leaving)
        if ending := self._due(now, Stage.RELEASING):
            return Unsubscribe(ending)
        if asking := self._due(now, Stage.WANTED):
            return Subscribe(asking)
        return None

    def sent(self, request: Subscribe | Unsubscribe, req_id: int, now: float) -> None:
        """`request` was sent as `req_id`."""
        for symbol in request.symbols:
            entry = self._symbols.get(symbol)
            if entry is None:
                continue
            entry.req_id = req_id
            if isinstance(request, Subscribe):
                entry.stage, entry.acked, entry.oldest, entry.asked_at = Stage.ASKED, False, None, now
                entry.due = now + self._pause(entry, at_least=ANSWER_SECONDS)
            else:
                entry.stage, entry.due = Stage.RELEASING, now + ANSWER_SECONDS

    def next_due(self) -> float:
        """When `next_request` may have something (steady seconds)."""
        if self._leaving:
            return 0.0
        return min((e.due for e in self._symbols.values() if e.stage is not Stage.READY), default=float("inf"))

    def ready(self) -> dict[str, float]:
        """The symbols that the connection can speak for, and since when (unix seconds): the open of the oldest row."""
        return {s: e.oldest for s, e in self._symbols.items() if e.stage is Stage.READY and e.oldest is not None}

    def rejected(self) -> dict[str, tuple[str, float]]:
        """The refused symbols with Kraken's reason and the time of the next try."""
        return {s: (e.reason, e.due) for s, e in self._symbols.items() if e.reason}

    def all_rejected(self) -> bool:
        """Whether there is nothing on this connection to wait for."""
        return all(e.stage is Stage.REJECTED for e in self._symbols.values())

    def any_acked(self) -> bool:
        """Whether Kraken has accepted a subscription, so that heartbeats are to be expected."""
        return any(e.acked or e.stage is Stage.READY for e in self._symbols.values())

    # --- inside ---

    def _expire(self, now: float) -> None:
        for entry in self._symbols.values():
            if entry.due > now:
                continue
            if entry.stage is Stage.ASKED:
                # Acked without a snapshot: only ending it brings one. Not acked: ask again.
                entry.stage = Stage.RELEASING if entry.acked else Stage.WANTED
                entry.req_id = None
            elif entry.stage is Stage.RELEASING and entry.req_id is not None:
                entry.stage, entry.req_id = Stage.WANTED, None
            elif entry.stage is Stage.REJECTED:
                entry.stage, entry.tries = Stage.WANTED, 0

    def _due(self, now: float, stage: Stage) -> tuple[str, ...]:
        found = [
            s
            for s, e in self._symbols.items()
            if e.stage is stage and e.due <= now and not (stage is Stage.RELEASING and e.req_id is not None)
        ]
        return tuple(found[:CHUNK])

    def _meant(self, name: str, entry: _Symbol, req_id: int | None, symbol: str | None) -> bool:
        if entry.stage not in (Stage.ASKED, Stage.RELEASING) or entry.acked:
            return False
        if symbol is not None:
            # Without req_id the symbol has to do (fact 8 has frames with either).
            return name == symbol and req_id in (None, entry.req_id)
        return req_id is not None and req_id == entry.req_id

    def _already(self, entry: _Symbol, now: float) -> None:
        if entry.oldest is not None:
            entry.acked = True
            self._settle(entry, now)
        else:
            entry.stage, entry.due, entry.req_id = Stage.RELEASING, now, None

    def _settle(self, entry: _Symbol, now: float) -> None:
        if entry.stage is Stage.ASKED and entry.acked and entry.oldest is not None:
            entry.stage, entry.ready_at = Stage.READY, now

    def _pause(self, entry: _Symbol, at_least: float = 0.0) -> float:
        pause = min(max(at_least, 1.0) * 2.0 ** min(entry.tries, 10), _MAX_PAUSE)
        entry.tries += 1
        return max(pause, at_least)
