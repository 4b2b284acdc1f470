"""Which symbols are wanted, and the shard of each feed. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ingress_common.symbols import matches
from kraken_gateway.kraken.protocol import GONE, TRADED

SHARD_SIZE = 300
"""Symbols on one live connection; clients report as many as fine (`kraken-protocol.md`, limits)."""


def has_wildcards(patterns: Iterable[str]) -> bool:
    """Whether `patterns` can be resolved only with Kraken's list of pairs."""
    return any("*" in pattern for pattern in patterns)


def matching(patterns: Iterable[str], pairs: Mapping[str, str]) -> frozenset[str]:
    """The symbols that `patterns` (`BTC/USD`, `*/USD`, `BTC/*`, `*`) select from Kraken's `pairs`, given with their
    status.

    A wildcard selects the pairs that are traded, or halted: those return. A name without a wildcard is always selected;
    Kraken may reject it.
    """
    wanted = {pattern for pattern in patterns if "*" not in pattern}
    usable = (symbol for symbol, status in pairs.items() if status not in GONE)
    return frozenset(wanted.union(symbol for symbol in usable if matches(patterns, symbol)))


@dataclass(frozen=True, slots=True)
class Listing:
    """`wanted`: the symbols to follow. `gone`: those that are not traded, with the reason. `appeared`: those that are
    traded now and were not before.
    """

    wanted: frozenset[str]
    gone: Mapping[str, str]
    appeared: frozenset[str]


def listing(
    patterns: Iterable[str], pairs: Mapping[str, str], before: Mapping[str, str], known: Collection[str]
) -> Listing:
    """The symbols that `patterns` select from `pairs` (status by symbol), after the previous list `before`.

    A symbol of `known` stays when its pair is delisted or leaves the list, so that the reason is reported. A name
    without a wildcard that was never in the list stays too: Kraken may reject it.
    """
    wanted = matching(patterns, pairs) | {s for s in known if pairs.get(s, "") in GONE or s not in pairs}
    gone = {
        symbol: f"{pairs[symbol]} in Kraken's list of pairs" if symbol in pairs else "not in Kraken's list of pairs"
        for symbol in wanted
        if pairs.get(symbol, "") in GONE or (symbol not in pairs and symbol in before)
    }
    names = {symbol.lower(): symbol for symbol in pairs}
    gone |= {
        symbol: f"not in Kraken's list of pairs, which has {names[symbol.lower()]}"
        for symbol in wanted - pairs.keys()
        if symbol.lower() in names
    }
    traded = {symbol for symbol in wanted if pairs.get(symbol) in TRADED}
    return Listing(frozenset(wanted), gone, frozenset(s for s in traded if before.get(s) not in TRADED))


def reshard(
    shards: Mapping[int, frozenset[str]], wanted: frozenset[str], size: int = SHARD_SIZE
) -> dict[int, frozenset[str]]:
    """`wanted` distributed over shards of up to `size` symbols; a symbol that stays keeps its shard.

    Empty shards are omitted.
    """
    kept = {slot: symbols & wanted for slot, symbols in shards.items() if symbols & wanted}
    new = sorted(wanted.difference(*kept.values()))
    for slot in sorted(kept):
        room = max(0, size - len(kept[slot]))
        kept[slot] |= frozenset(new[:room])
        new = new[room:]
    slot = 0
    while new:
        if slot not in kept:
            kept[slot], new = frozenset(new[:size]), new[size:]
        slot += 1
    return kept


def moved(shards: Mapping[int, frozenset[str]], symbol: str, size: int = SHARD_SIZE) -> dict[int, frozenset[str]]:
    """`shards` with `symbol` moved to the emptiest other shard with room, or to a new one."""
    others = {slot: symbols for slot, symbols in shards.items() if symbol not in symbols}
    slot = min(others, key=lambda slot: (len(others[slot]), slot), default=None)
    if slot is None or len(others[slot]) >= size:
        slot = next(number for number in range(len(shards) + 1) if number not in shards)
    left = {number: symbols - {symbol} for number, symbols in shards.items()}
    return {**left, slot: left.get(slot, frozenset()) | {symbol}}
