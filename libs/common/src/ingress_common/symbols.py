"""Names of pairs: matching of patterns, and correction of wrong names."""

import re
from collections.abc import Iterable

_QUOTES = ("USDT", "USDC", "USD", "EUR", "GBP", "CAD", "AUD", "CHF", "JPY", "BTC", "XBT", "ETH")
_LEGACY = {"XBT": "BTC", "XDG": "DOGE"}
_BASE = re.compile(r"[^a-z]+x?")
_SEPARATOR = re.compile(r"[-_: ]")
# REST's keys of the first pairs: XXBTZUSD.
_OLD_KEY = re.compile(r"[XZ]([A-Z]{3})(?:Z(USD|EUR|GBP|CAD|AUD|JPY)|X(XBT|ETH))")


def matches(patterns: Iterable[str], symbol: str) -> bool:
    """Whether one of `patterns` (`BTC/USD`, `*/USD`, `BTC/*`, `*`) matches `symbol`."""
    base, _, quote = symbol.partition("/")
    return any(pattern in (symbol, f"*/{quote}", f"{base}/*", "*") for pattern in patterns)


def right_name(name: str) -> str:
    """The correct symbol or pattern for a name that REST, other programs or people use; a correct name is unchanged.

    `XBT/USD`, `BTCUSD`, `BTC-USD`, `XXBTZUSD` and `btc/usd` become `BTC/USD`; the lower case x of `AAPLx/USD` stays.
    """
    if "/" not in name and len(_SEPARATOR.findall(name)) == 1:
        return right_name(_SEPARATOR.sub("/", name))
    base, slash, quote = name.partition("/")
    if not slash:
        joined = name.upper()
        if old := _OLD_KEY.fullmatch(joined):
            return right_name(f"{old[1]}/{old[2] or old[3]}")
        quote = next((q for q in _QUOTES if joined.endswith(q) and joined != q), "")
        if not quote:
            return name
        base = name[: -len(quote)]
    quote = quote.upper()
    base = base if _BASE.fullmatch(base) else base.upper()
    return f"{_LEGACY.get(base, base)}/{_LEGACY.get(quote, quote)}"
