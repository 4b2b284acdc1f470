"""Names of pairs: matching of patterns, and correction of wrong names."""

import re
from collections.abc import Iterable

_QUOTES = ("USDT", "USDC", "USD", "EUR", "GBP", "CAD", "AUD", "CHF", "JPY", "BTC", "XBT", "ETH")
_LEGACY = {"XBT": "BTC", "XDG": "DOGE"}
_BASE = re.compile(r"[^a-z]+x?")


def matches(patterns: Iterable[str], symbol: str) -> bool:
    """Whether one of `patterns` (`BTC/USD`, `*/USD`, `BTC/*`, `*`) matches `symbol`."""
    base, _, quote = symbol.partition("/")
    return any(pattern in (symbol, f"*/{quote}", f"{base}/*", "*") for pattern in patterns)


def right_name(name: str) -> str:
    """The correct symbol or pattern for a name that REST, other programs or people use; a correct name is unchanged.

    `XBT/USD`, `BTCUSD` and `btc/usd` become `BTC/USD`; the lower case x of `AAPLx/USD` stays.
    """
    base, slash, quote = name.partition("/")
    if not slash:
        joined = name.upper()
        quote = next((q for q in _QUOTES if joined.endswith(q) and joined != q), "")
        base = joined.removesuffix(quote)
        if not quote:
            return name
    quote = quote.upper()
    base = base if _BASE.fullmatch(base) else base.upper()
    return f"{_LEGACY.get(base, base)}/{_LEGACY.get(quote, quote)}"
