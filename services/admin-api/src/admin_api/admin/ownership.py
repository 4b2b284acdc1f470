"""The owners of each symbol, by the feeds' states and the instances' statuses."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from admin_api.system.details import owned_since, some, texts
from admin_api.system.state import AGGREGATOR, GATEWAY, OWNER_SILENCE_SECONDS, SystemState
from ingress_common.health import Check
from ingress_common.times import rfc3339

UNOWNED_SECONDS = 40.0
"""Maximum time of a symbol without an aggregator: others take over 15 s after a last will, 30 s after silence."""


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner of a symbol (an instance or a feed), and its start (unix seconds; None: unknown)."""

    name: str
    since: float | None


@dataclass(frozen=True, slots=True)
class Ownership:
    """The live feeds, gateways and aggregators of a symbol, oldest owner first. There should be one of each."""

    symbol: str
    feeds: tuple[Owner, ...]
    gateways: tuple[Owner, ...]
    aggregators: tuple[Owner, ...]

    def as_json(self) -> dict[str, Any]:
        """The entry in `GET /health`; `also` names further owners."""
        also = [*self.feeds[1:], *self.gateways[1:], *self.aggregators[1:]]
        return {
            "symbol": self.symbol,
            **_named("gateway", self.gateways),
            **_named("feed", self.feeds),
            **_named("aggregator", self.aggregators),
            "also": [owner.name for owner in also],
        }


def ownership(state: SystemState, now: float) -> list[Ownership]:
    """The owners of every symbol of a live feed or an aggregator at `now` (unix seconds), by symbol."""
    feeds: dict[str, list[Owner]] = {}
    gateways: dict[str, list[Owner]] = {}
    aggregators: dict[str, list[Owner]] = {}
    for name, details in state.online(AGGREGATOR, now, OWNER_SILENCE_SECONDS):
        since = owned_since(details)
        for symbol in texts(details.get("symbols")):
            aggregators.setdefault(symbol, []).append(Owner(name, since.get(symbol)))
    gateway_of: dict[str, tuple[str, dict[str, float]]] = {}
    for name, details in state.online(GATEWAY, now, OWNER_SILENCE_SECONDS):
        gateway_of.update(dict.fromkeys(texts(details.get("feeds")), (name, owned_since(details))))
    for name, feed in state.feeds.items():
        if not feed.is_fresh(now):
            continue
        gateway, since = gateway_of.get(name, ("", {}))
        for symbol in feed.state.symbols:
            feeds.setdefault(symbol, []).append(Owner(name, feed.state.since))
            if gateway:
                gateways.setdefault(symbol, []).append(Owner(gateway, since.get(symbol)))
    return [
        Ownership(symbol, _ordered(feeds, symbol), _ordered(gateways, symbol), _ordered(aggregators, symbol))
        for symbol in sorted(feeds.keys() | aggregators.keys())
    ]


class OwnershipWatch:
    """Tracks how long a symbol of a live feed has no aggregator. Call `look` about every second."""

    def __init__(self, state: SystemState) -> None:
        self._state = state
        self._unowned_since: dict[str, float] = {}

    def look(self, now: float) -> None:
        """Update the symbols without an aggregator at `now` (unix seconds)."""
        owned = {
            symbol
            for _, details in self._state.online(AGGREGATOR, now, OWNER_SILENCE_SECONDS)
            for symbol in texts(details.get("symbols"))
        }
        unowned = self._state.live_since(now).keys() - owned
        self._unowned_since = {symbol: self._unowned_since.get(symbol, now) for symbol in unowned}

    def check(self, now: float) -> Check:
        """Red when a symbol of a live feed has no aggregator for longer than UNOWNED_SECONDS."""
        late = sorted(symbol for symbol, since in self._unowned_since.items() if now - since > UNOWNED_SECONDS)
        if late:
            return Check("ownership", ok=False, detail=f"no aggregator has {some(late)}")
        waiting = f"; {len(self._unowned_since)} wait for an aggregator" if self._unowned_since else ""
        return Check("ownership", ok=True, detail=f"every symbol of a live feed has an aggregator{waiting}")


def ownership_details(entries: Iterable[Ownership]) -> dict[str, Any]:
    """The fields `ownership` and `ownership_trouble` of `GET /health`: all symbols, and those without one owner."""
    entries = list(entries)
    return {
        "ownership": [entry.as_json() for entry in entries],
        "ownership_trouble": {
            "without_aggregator": [entry.symbol for entry in entries if not entry.aggregators],
            "without_feed": [entry.symbol for entry in entries if not entry.feeds],
            "several_aggregators": [entry.symbol for entry in entries if len(entry.aggregators) > 1],
            "several_feeds": [entry.symbol for entry in entries if len(entry.feeds) > 1],
        },
    }


def _ordered(owners: Mapping[str, list[Owner]], symbol: str) -> tuple[Owner, ...]:
    found = owners.get(symbol, [])
    return tuple(sorted(found, key=lambda o: (o.since if o.since is not None else float("inf"), o.name)))


def _named(role: str, owners: tuple[Owner, ...]) -> dict[str, Any]:
    first = owners[0] if owners else Owner("", None)
    return {role: first.name or None, f"{role}_since": None if first.since is None else rfc3339(first.since)}
