"""Which symbols are wanted, and which feed carries them."""

from collections.abc import Collection, Iterable, Mapping

from kraken_gateway.kraken.protocol import GONE, ONLINE

FEED_SIZE = 200
"""Symbols on one live connection; clients report 300 as fine (`kraken-protocol.md`, limits)."""


def has_wildcards(patterns: Iterable[str]) -> bool:
    """Whether Kraken's list of pairs is needed to know what `patterns` mean."""
    return any("*" in pattern for pattern in patterns)


def matching(patterns: Iterable[str], pairs: Mapping[str, str], known: Collection[str] = ()) -> frozenset[str]:
    """The symbols that `patterns` (`BTC/USD`, `*/USD`, `BTC/*`, `*`) mean, given Kraken's `pairs` and their status.

    A wildcard takes the pairs that are online, and keeps those of `known` while they exist, whatever state they pass
    through: a pair that is halted comes back. A name without wildcard is taken as it is; Kraken rejects it by name if
    it has to.
    """
    wanted: set[str] = set()
    for pattern in patterns:
        if "*" not in pattern:
            wanted.add(pattern)
            continue
        base, _, quote = ("*/*" if pattern == "*" else pattern).partition("/")
        for symbol, status in pairs.items():
            its_base, _, its_quote = symbol.partition("/")
            usable = status == ONLINE or (symbol in known and status not in GONE)
            if usable and base in ("*", its_base) and quote in ("*", its_quote):
                wanted.add(symbol)
    return frozenset(wanted)


def regroup(
    groups: Mapping[int, frozenset[str]], wanted: frozenset[str], size: int = FEED_SIZE
) -> dict[int, frozenset[str]]:
    """`wanted` spread over feeds of up to `size` symbols, so that no symbol changes its feed.

    Empty feeds are left out.
    """
    kept = {slot: symbols & wanted for slot, symbols in groups.items() if symbols & wanted}
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
