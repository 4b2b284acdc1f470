"""Frames of the instrument channel, whose `data` is an object of assets and pairs."""

from collections.abc import Iterable

from kraken_simulator.pairs import SimulatedPair
from kraken_simulator.text import fixed

Listing = tuple[SimulatedPair, str]
"""A pair and its status."""


def snapshot(listings: Iterable[Listing]) -> str:
    """Return the snapshot: all pairs and their assets."""
    return _frame("snapshot", tuple(listings))


def update(listings: Iterable[Listing]) -> str:
    """Return an update: the changed pairs with their status.

    No recording of an update exists; it has the form of the snapshot.
    """
    return _frame("update", tuple(listings))


def _frame(kind: str, listings: tuple[Listing, ...]) -> str:
    currencies = sorted({currency for pair, _ in listings for currency in (pair.base, pair.quote)})
    assets = ",".join(
        f'{{"id":"{currency}","status":"enabled","precision":10,"precision_display":5,"borrowable":false,'
        f'"collateral_value":0.00,"margin_rate":0.000000}}'
        for currency in currencies
    )
    rows = ",".join(_row(pair, status) for pair, status in listings)
    return f'{{"channel":"instrument","type":"{kind}","data":{{"assets":[{assets}],"pairs":[{rows}]}}}}'


def _row(pair: SimulatedPair, status: str) -> str:
    lot, step = fixed(1, pair.qty_decimals), fixed(1, pair.price_decimals)
    return (
        f'{{"symbol":"{pair.symbol}","base":"{pair.base}","quote":"{pair.quote}","status":"{status}",'
        f'"qty_precision":{pair.qty_decimals},"qty_increment":{lot},"price_precision":{pair.price_decimals},'
        f'"cost_precision":5,"marginable":false,"has_index":true,"cost_min":0.50,'
        f'"price_increment":{step},"qty_min":{fixed(5 * 10 ** max(0, pair.qty_decimals - 5), pair.qty_decimals)},'
        f'"tick_size":{step}}}'
    )
