"""The methods Assets and AssetPairs."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from kraken_simulator.pairs import SimulatedPair, legacy_name, rest_asset
from kraken_simulator.text import fixed

_CENTS = frozenset({"USD", "EUR", "GBP", "CAD", "JPY", "AUD", "CHF"})


def asset(currency: str, asset_class: str) -> dict[str, object]:
    """Return the row of an asset by its v2 name."""
    decimals, shown = (4, 2) if currency in _CENTS else (10, 5)
    return {
        "aclass": asset_class,
        "altname": legacy_name(currency),
        "decimals": decimals,
        "display_decimals": shown,
        "collateral_value": 1.0,
        "status": "enabled",
        "margin_rate": "0.02",
    }


def asset_key(currency: str, *, display_names: bool) -> str:
    """Return the key of an asset: `XXBT`, or `BTC` with display names."""
    return currency if display_names else rest_asset(currency)


def pair_key(pair: SimulatedPair, *, display_names: bool) -> str:
    """Return the key of a pair: `XXBTZUSD`, or `BTC/USD` with display names."""
    return pair.symbol if display_names else pair.key


def pair_info(pair: SimulatedPair, status: str | None, *, display_names: bool) -> dict[str, object]:
    """Return the row of a pair in AssetPairs; without a status if `status` is None."""
    row: dict[str, object] = {
        "altname": pair.altname,
        "wsname": pair.wsname,
        "aclass_base": pair.asset_class,
        "base": asset_key(pair.base, display_names=display_names),
        "aclass_quote": "currency",
        "quote": asset_key(pair.quote, display_names=display_names),
        "lot": "unit" if pair.qty_decimals == 8 else f"unit{pair.qty_decimals}",
        "cost_decimals": 5,
        "pair_decimals": pair.price_decimals,
        "lot_decimals": pair.qty_decimals,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [],
        "fees_maker": [],
        "fee_volume_currency": asset_key("USD", display_names=display_names),
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": fixed(5 * 10 ** max(0, pair.qty_decimals - 5), pair.qty_decimals).rstrip("0").rstrip("."),
        "costmin": "0.5",
        "tick_size": fixed(1, pair.price_decimals),
    }
    return row | ({} if status is None else {"status": status}) | {"execution_venue": "international"}


def _part(*names: str) -> Callable[[Mapping[str, object]], dict[str, object]]:
    return lambda row: {name: row[name] for name in names}


PARTS: Mapping[str, Callable[[Mapping[str, object]], Mapping[str, object]]] = MappingProxyType(
    {
        "info": lambda row: row,
        "leverage": _part("leverage_buy", "leverage_sell"),
        "fees": _part("fees", "fees_maker", "fee_volume_currency"),
        "margin": _part("margin_call", "margin_stop"),
    }
)
"""The columns of AssetPairs by the parameter `info`."""


def currencies_of(pairs: Iterable[SimulatedPair]) -> dict[str, str]:
    """Return the assets of pairs by name, with their class: the pair's for the base, currency for the quote."""
    found: dict[str, str] = {}
    for pair in pairs:
        found.setdefault(pair.quote, "currency")
        found.setdefault(pair.base, pair.asset_class)
    return found
