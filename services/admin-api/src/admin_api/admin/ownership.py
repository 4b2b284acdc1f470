"""The owners of each symbol, by the feeds' states and the instances' statuses."""

from collections import defaultdict
from math import inf
from typing import NamedTuple

from admin_api.admin.bodies import OwnershipBody, OwnershipProblems
from admin_api.system.details import owned_since, texts
from admin_api.system.state import SystemState
from ingress_common.health import Check, some
from ingress_common.membership import TAKEOVER_SECONDS
from ingress_common.service_names import AGGREGATOR, GATEWAY
from ingress_common.times import rfc3339

UNOWNED_SECONDS = 40.0
"""Maximum time of a symbol without an aggregator: others take over 15 s after a last will, 30 s after silence."""


class _Owner(NamedTuple):
    """An owner of a symbol: its start (unix seconds; infinity: unknown), and the name of the instance or feed."""

    since: float
    name: str


def ownership(state: SystemState, now: float) -> tuple[list[OwnershipBody], OwnershipProblems]:
    """The owners of every symbol of a live feed or an aggregator at `now` (unix seconds), by symbol, and the symbols
    that do not have one of each.
    """
    feeds: defaultdict[str, list[_Owner]] = defaultdict(list)
    gateways: defaultdict[str, list[_Owner]] = defaultdict(list)
    aggregators: defaultdict[str, list[_Owner]] = defaultdict(list)
    for name, details in state.online(AGGREGATOR, now, TAKEOVER_SECONDS):
        since = owned_since(details)
        for symbol in texts(details.get("symbols")):
            aggregators[symbol].append(_Owner(since.get(symbol, inf), name))
    gateway_of: dict[str, tuple[str, dict[str, float]]] = {}
    for name, details in state.online(GATEWAY, now, TAKEOVER_SECONDS):
        gateway_of.update(dict.fromkeys(texts(details.get("feeds")), (name, owned_since(details))))
    for name, feed in state.feeds.items():
        if not feed.is_fresh(now):
            continue
        gateway, since = gateway_of.get(name, ("", {}))
        for symbol in feed.state.symbols:
            feeds[symbol].append(_Owner(feed.state.since, name))
            if gateway:
                gateways[symbol].append(_Owner(since.get(symbol, inf), gateway))
    symbols = sorted(feeds.keys() | aggregators.keys())
    problems = OwnershipProblems(
        without_aggregator=[symbol for symbol in symbols if not aggregators[symbol]],
        without_feed=[symbol for symbol in symbols if not feeds[symbol]],
        several_aggregators=[symbol for symbol in symbols if len(aggregators[symbol]) > 1],
        several_feeds=[symbol for symbol in symbols if len(feeds[symbol]) > 1],
    )
    return [_body(symbol, gateways[symbol], feeds[symbol], aggregators[symbol]) for symbol in symbols], problems


class OwnershipWatch:
    """Tracks how long a symbol of a live feed has no aggregator. Call `look` about every second."""

    def __init__(self, state: SystemState) -> None:
        self._state = state
        self._unowned_since: dict[str, float] = {}

    def look(self, now: float) -> None:
        """Update the symbols without an aggregator at `now` (unix seconds)."""
        owned = {
            symbol
            for _, details in self._state.online(AGGREGATOR, now, TAKEOVER_SECONDS)
            for symbol in texts(details.get("symbols"))
        }
        unowned = self._state.live_since(now).keys() - owned
        self._unowned_since = {symbol: self._unowned_since.get(symbol, now) for symbol in unowned}

    def check(self, now: float) -> Check:
        """Red when a symbol of a live feed has no aggregator for longer than UNOWNED_SECONDS."""
        late = sorted(symbol for symbol, since in self._unowned_since.items() if now - since > UNOWNED_SECONDS)
        if late:
            return Check("ownership", ok=False, detail=f"no aggregator owns {some(late)}")
        waiting = f"; {len(self._unowned_since)} wait for an aggregator" if self._unowned_since else ""
        return Check("ownership", ok=True, detail=f"every symbol of a live feed has an aggregator{waiting}")


def _body(symbol: str, *owners: list[_Owner]) -> OwnershipBody:
    """The entry of a symbol: of its gateways, feeds and aggregators those that began first, and further ones."""
    gateways, feeds, aggregators = map(sorted, owners)
    (gateway, gateway_since), (feed, feed_since), (aggregator, aggregator_since) = map(_first, owners)
    also = [owner.name for owner in (*feeds[1:], *gateways[1:], *aggregators[1:])]
    return OwnershipBody(symbol, gateway, gateway_since, feed, feed_since, aggregator, aggregator_since, also)


def _first(owners: list[_Owner]) -> tuple[str | None, str | None]:
    """The name and the start of the owner that began first."""
    if not owners:
        return None, None
    first = min(owners)
    return first.name, None if first.since == inf else rfc3339(first.since)
