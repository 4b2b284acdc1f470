"""Which symbols should have candles: those that a gateway has taken on, by its status."""

from collections.abc import Mapping
from dataclasses import dataclass

from admin_api.system.details import texts
from admin_api.system.state import GATEWAY, SystemState


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the gateways are to carry.

    `symbols`: those that should be live, seeded and stored. `rejected`: those that Kraken refuses, with its reason;
    nobody can mend them here, so they are named and make nothing red. `unknown_at_rest`: those that are live although
    Kraken's REST does not know them, and what follows.
    """

    symbols: frozenset[str]
    rejected: Mapping[str, str]
    unknown_at_rest: Mapping[str, str]


def wanted(state: SystemState, now: float) -> Wanted:
    """What is wanted at `now` (unix seconds), by the gateways that are online.

    A symbol that was delisted, or taken out of SYMBOLS, is in no gateway's list any more.
    """
    symbols = set(state.live_since(now))
    rejected: dict[str, str] = {}
    unknown: dict[str, str] = {}
    for _, details in state.online(GATEWAY, now):
        symbols.update(texts(details.get("owned_since")))
        rejected.update(_reasons(details.get("rejected")))
        unknown.update(_reasons(details.get("unknown_at_rest")))
    for feed in state.feeds.values():
        rejected.update(feed.state.rejected)
    return Wanted(frozenset(symbols - rejected.keys()), rejected, unknown)


def _reasons(value: object) -> dict[str, str]:
    return {name: str(value[name]) for name in texts(value)} if isinstance(value, Mapping) else {}
