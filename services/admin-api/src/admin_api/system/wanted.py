"""The symbols that should have candles: those that a gateway owns, by its status."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from admin_api.system.details import owned_since, texts
from admin_api.system.state import GATEWAY, SystemState

NEW_SECONDS = 15.0
"""Time in which a pair that Kraken lists becomes live and seeded."""

START_SECONDS = 60.0
"""Time after a gateway's start in which the pairs that it takes are not new, but its first ones."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The symbols that the gateways own.

    `symbols`: those that should be live, seeded and stored. `rejected`: those that Kraken refuses, with its reason;
    only Kraken can change that, so checks name them and stay green. `untraded`: those that have never traded, which are
    carried once they do. `unknown_at_rest`: live symbols that Kraken's REST does not know, with the consequence. `new`:
    those of `symbols` that a running gateway took within the last NEW_SECONDS, and whose first candle is no older.
    """

    symbols: frozenset[str]
    rejected: Mapping[str, str]
    untraded: frozenset[str]
    unknown_at_rest: Mapping[str, str]
    new: frozenset[str]


def wanted(state: SystemState, now: float) -> Wanted:
    """The wanted symbols at `now` (unix seconds), by the statuses of online gateways.

    A symbol that was delisted, or removed from SYMBOLS, is on no gateway's list.
    """
    live = state.live_since(now)
    symbols = set(live)
    untraded: set[str] = set()
    rejected: dict[str, str] = {}
    unknown: dict[str, str] = {}
    new: set[str] = set()
    for name, details in state.online(GATEWAY, now):
        symbols.update(texts(details.get("owned_since")))
        started = state.instances[GATEWAY, name].status.started_at
        newest = max(now - NEW_SECONDS, started + START_SECONDS)
        new.update(symbol for symbol, since in owned_since(details).items() if since > newest)
        rejected.update(_reasons(details.get("rejected")))
        untraded.update(texts(details.get("untraded")))
        unknown.update(_reasons(details.get("unknown_at_rest")))
    for feed in state.feeds.values():
        rejected.update(feed.state.rejected)
    untraded -= live.keys()
    symbols -= rejected.keys() | untraded
    new &= symbols - {name for name, symbol in state.symbols.items() if now - symbol.since > NEW_SECONDS}
    return Wanted(frozenset(symbols), rejected, frozenset(untraded), unknown, frozenset(new))


def unfollowed(state: SystemState, now: float, symbols: Iterable[str]) -> list[str]:
    """Those of `symbols` that no gateway follows at `now` (unix seconds); none while a gateway may follow them and has
    not reported it.
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
