"""What Kraken's list of pairs means for the symbols that are wanted. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from kraken_gateway.kraken.protocol import GONE, ONLINE
from kraken_gateway.pairs.groups import matching


@dataclass(frozen=True, slots=True)
class Listing:
    """`wanted`: the symbols to look after. `gone`: those of them that are not traded, and why. `appeared`: those that
    are online now and were not before.
    """

    wanted: frozenset[str]
    gone: Mapping[str, str]
    appeared: frozenset[str]


def listing(
    patterns: Iterable[str], pairs: Mapping[str, str], before: Mapping[str, str], known: Collection[str]
) -> Listing:
    """What `patterns` mean by the list `pairs` (status by symbol) that follows the list `before`.

    A symbol of `known`, those looked after so far, stays one when its pair is delisted or leaves the list, so that
    everyone is told why nothing comes of it. A name without a wildcard that was never in the list is left to Kraken to
    refuse.
    """
    wanted = matching(patterns, pairs, known) | {s for s in known if pairs.get(s, "") in GONE or s not in pairs}
    gone = {
        symbol: f"Kraken's list of pairs says {pairs[symbol]}" if symbol in pairs else "not in Kraken's list of pairs"
        for symbol in wanted
        if pairs.get(symbol, "") in GONE or (symbol not in pairs and symbol in before)
    }
    online = {symbol for symbol in wanted if pairs.get(symbol) == ONLINE}
    return Listing(frozenset(wanted), gone, frozenset(s for s in online if before.get(s) != ONLINE))
