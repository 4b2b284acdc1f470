"""Who looks after which symbol, and since when: as the feeds' states and the instances' statuses tell."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from admin_api.system.health import WATERMARK_SECONDS
from admin_api.system.view import BusView
from ingress_common.health import Check
from ingress_common.times import parse_rfc3339, rfc3339

UNOWNED_SECONDS = 40.0
"""How long a symbol may be without an aggregator: a last will takes 15 s, silence 30 s, and then it is shared out."""

OWNER_SILENCE_SECONDS = 30.0
"""An instance that has said nothing for this long is counted out by the others too."""

_NAMED = 10


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has a symbol (an instance or a feed), and since when (unix seconds; None: it does not say)."""

    name: str
    since: float | None


@dataclass(frozen=True, slots=True)
class Ownership:
    """The live feeds, gateways and aggregators that say they have a symbol; longest first. One of each is right."""

    symbol: str
    feeds: tuple[Owner, ...]
    gateways: tuple[Owner, ...]
    aggregators: tuple[Owner, ...]

    def as_json(self) -> dict[str, Any]:
        """The entry in `GET /health`; `also` names what should not be there."""
        also = [*self.feeds[1:], *self.gateways[1:], *self.aggregators[1:]]
        return {
            "symbol": self.symbol,
            **_named("gateway", self.gateways),
            **_named("feed", self.feeds),
            **_named("aggregator", self.aggregators),
            "also": [owner.name for owner in also],
        }


def ownership(view: BusView, now: float) -> list[Ownership]:
    """Who has what at `now` (unix seconds), for every symbol that a live feed or an aggregator has, sorted."""
    feeds: dict[str, list[Owner]] = {}
    gateways: dict[str, list[Owner]] = {}
    aggregators: dict[str, list[Owner]] = {}
    carriers: dict[str, str] = {}
    since_of: dict[tuple[str, str], Mapping[str, float]] = {}
    for (service, instance), entry in view.instances.items():
        if not entry.is_online(now, OWNER_SILENCE_SECONDS):
            continue
        details = entry.status.details
        since_of[service, instance] = _instants(details.get("owned_since"))
        if service == "aggregator":
            for symbol in _texts(details.get("symbols")):
                since = since_of[service, instance].get(symbol)
                aggregators.setdefault(symbol, []).append(Owner(instance, since))
        elif service == "kraken-gateway":
            carriers.update(dict.fromkeys(_texts(details.get("feeds")), instance))
    for name, feed in view.feeds.items():
        if not feed.is_fresh(now, WATERMARK_SECONDS):
            continue
        gateway = carriers.get(name)
        for symbol in feed.state.symbols:
            feeds.setdefault(symbol, []).append(Owner(name, feed.state.since))
            if gateway is not None:
                since = since_of["kraken-gateway", gateway].get(symbol)
                gateways.setdefault(symbol, []).append(Owner(gateway, since))
    return [
        Ownership(symbol, _ordered(feeds, symbol), _ordered(gateways, symbol), _ordered(aggregators, symbol))
        for symbol in sorted(feeds.keys() | aggregators.keys())
    ]


class OwnershipWatch:
    """Remembers since when a symbol of a live feed has no aggregator. Call `look` every second or so."""

    def __init__(self, view: BusView) -> None:
        self._view = view
        self._alone_since: dict[str, float] = {}

    def look(self, now: float) -> list[Ownership]:
        """Who has what at `now` (unix seconds)."""
        found = ownership(self._view, now)
        alone = {entry.symbol for entry in found if entry.feeds and not entry.aggregators}
        self._alone_since = {symbol: self._alone_since.get(symbol, now) for symbol in alone}
        return found

    def check(self, now: float) -> Check:
        """Red when a symbol of a live feed has no aggregator for longer than UNOWNED_SECONDS."""
        late = sorted(symbol for symbol, since in self._alone_since.items() if now - since > UNOWNED_SECONDS)
        if late:
            more = f" and {len(late) - _NAMED} more" if len(late) > _NAMED else ""
            return Check("ownership", ok=False, detail=f"no aggregator has {', '.join(late[:_NAMED])}{more}")
        waiting = f"; {len(self._alone_since)} wait for an aggregator" if self._alone_since else ""
        return Check("ownership", ok=True, detail=f"every symbol of a live feed has an aggregator{waiting}")


def ownership_details(found: Iterable[Ownership]) -> dict[str, Any]:
    """What `GET /health` shows of it: every symbol, and those that nobody or several have."""
    entries = list(found)
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
    return tuple(
        sorted(owners.get(symbol, ()), key=lambda o: (o.since if o.since is not None else float("inf"), o.name))
    )


def _named(role: str, owners: tuple[Owner, ...]) -> dict[str, Any]:
    first = owners[0] if owners else None
    since = first.since if first else None
    return {role: first.name if first else None, f"{role}_since": None if since is None else rfc3339(since)}


def _texts(value: object) -> list[str]:
    """The texts of a list, or the names of an object, in a status of whatever version."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list | dict) else []


def _instants(value: object) -> dict[str, float]:
    """The instants of `{name: RFC 3339}`, without what is none."""
    found: dict[str, float] = {}
    for name, text in value.items() if isinstance(value, dict) else ():
        if isinstance(name, str) and (instant := instant_of(text)) is not None:
            found[name] = instant
    return found


def instant_of(text: object) -> float | None:
    """Unix seconds of an RFC 3339 time in a status; None where there is none."""
    if not isinstance(text, str):
        return None
    try:
        return parse_rfc3339(text)
    except (ValueError, OverflowError):
        return None
