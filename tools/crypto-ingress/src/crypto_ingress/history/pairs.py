"""Symbols from the names of Kraken's archive files: `XBTUSD_1.csv` is BTC/USD."""

QUOTES = (
    "USDT",
    "USDC",
    "USDG",
    "USDQ",
    "USDR",
    "PYUSD",
    "RLUSD",
    "EURC",
    "EURQ",
    "EURR",
    "USD",
    "EUR",
    "GBP",
    "CAD",
    "AUD",
    "CHF",
    "JPY",
    "AED",
    "BRL",
    "MXN",
    "ARS",
    "XBT",
    "BTC",
    "ETH",
    "DAI",
    "DOT",
    "SOL",
)
"""The quote assets of Kraken's pairs; a longer name comes before the shorter ones that it ends with."""

_NATIVE = {"XBT": "BTC", "XDG": "DOGE"}
# Names whose longest possible quote is not their quote.
_SPLITS = {"PYUSDUSD": ("PYUSD", "USD"), "RLUSDUSD": ("RLUSD", "USD")}


def symbol_of_name(name: str) -> str | None:
    """The symbol of a file's pair name, such as BTC/USDC for XBTUSDC; None if it has no known quote asset."""
    if name in _SPLITS:
        base, quote = _SPLITS[name]
        return f"{base}/{quote}"
    for quote in QUOTES:
        base = name.removesuffix(quote)
        if base and base != name and _is_asset(base):
            return f"{_NATIVE.get(base, base)}/{_NATIVE.get(quote, quote)}"
    return None


def _is_asset(text: str) -> bool:
    """Whether `text` can be an asset: letters, also lower case (AAPLx), digits and dots (ETH2.S)."""
    return text.isascii() and all(c.isalnum() or c == "." for c in text)
