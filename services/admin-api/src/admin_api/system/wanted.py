"""The symbols that should have candles: those that a gateway owns, by its status."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from admin_api.system.details import owned_since, texts
from admin_api.system.state import SystemState
from ingress_common.service_names import GATEWAY

NEW_SECONDS = 30.0
"""Maximum time in which a new pair becomes live and seeded, or is found to have never traded: a gateway waits 15 s for
its first trade before it requests one from Kraken's REST.
"""

_FIRST_SECONDS = 5.0
"""Symbols that a gateway takes within this time of its first ones are those of its start."""

_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The symbols that the gateways own.

    `symbols`: those that should be live, seeded and stored. `rejected`: those that Kraken refuses, with its reason;
    only Kraken can change that, so checks name them and stay green. `untraded`: those that have never traded, which are
    carried once they do. `unknown_at_rest`: live symbols that Kraken's REST does not know, with the consequence.
    """

    symbols: frozenset[str]
    rejected: Mapping[str, str]
    untraded: frozenset[str]
    unknown_at_rest: Mapping[str, str]


def wanted(state: SystemState, now: float) -> Wanted:
    """The wanted symbols at `now` (unix seconds), by the statuses of online gateways.

    A symbol that was delisted, or removed from SYMBOLS, is on no gateway's list.
    """
    live = state.live_since(now)
    symbols = set(live)
    untraded: set[str] = set()
    rejected: dict[str, str] = {}
    unknown: dict[str, str] = {}
    for _, details in state.online(GATEWAY, now):
        symbols.update(texts(details.get("owned_since")))
        rejected.update(_reasons(details.get("rejected")))
        untraded.update(texts(details.get("untraded")))
        unknown.update(_reasons(details.get("unknown_at_rest")))
    for feed in state.feeds.values():
        rejected.update(feed.state.rejected)
    untraded -= live.keys()
    return Wanted(frozenset(symbols - rejected.keys() - untraded), rejected, frozenset(untraded), unknown)


class NewPairs:
    """The pairs that have just been listed, or have just begun to trade. Call `look` about every second.

    The pairs of a gateway's start, and those that another gateway takes over, are not new.
    """

    def __init__(self, state: SystemState) -> None:
        self._state = state
        self._since: dict[str, float] = {}  # when a symbol became wanted; minus infinity: at a start
        self._waiting: frozenset[str] = frozenset()

    def look(self, now: float) -> None:
        """Update the wanted symbols at `now` (unix seconds)."""
        found = wanted(self._state, now)
        later = self._taken_later(now)
        for symbol in found.symbols - self._since.keys():
            self._since[symbol] = now if symbol in self._waiting else later.get(symbol, _NEVER)
        self._waiting = found.untraded.union(found.rejected)
        kept = found.symbols.union(self._state.symbols) - self._waiting
        self._since = {symbol: since for symbol, since in self._since.items() if symbol in kept}

    def at(self, now: float) -> frozenset[str]:
        """The pairs that became wanted in the last NEW_SECONDS before `now` (unix seconds)."""
        return frozenset(symbol for symbol, since in self._since.items() if abs(now - since) <= NEW_SECONDS)

    def _taken_later(self, now: float) -> dict[str, float]:
        """The symbols that a gateway took after those of its start, and when (unix seconds)."""
        later: dict[str, float] = {}
        for _, details in self._state.online(GATEWAY, now):
            owned = owned_since(details)
            first = min(owned.values(), default=_NEVER)
            later.update({symbol: since for symbol, since in owned.items() if since > first + _FIRST_SECONDS})
        return later


def unfollowed(state: SystemState, now: float, symbols: Iterable[str]) -> list[str]:
    """The members of `symbols` that no gateway follows at `now` (unix seconds); none while a gateway may follow them
    and has not reported it.
    """
    gateways = [details for _, details in state.online(GATEWAY, now)]
    if not gateways or not all(texts(details.get("patterns")) for details in gateways):
        return []
    found = wanted(state, now)
    followed = {*found.symbols, *found.untraded}
    for feed in state.feeds.values():
        followed.update(feed.state.symbols)
    return [symbol for symbol in dict.fromkeys(symbols) if symbol not in followed]


def _reasons(value: object) -> dict[str, str]:
    return {name: str(value[name]) for name in texts(value)} if isinstance(value, Mapping) else {}
