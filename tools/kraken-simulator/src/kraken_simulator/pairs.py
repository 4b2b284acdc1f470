"""Currency pairs: their names in Kraken's APIs, asset class and decimals."""

import re
from dataclasses import dataclass

SYMBOL_PATTERN = re.compile(r"[A-Za-z0-9.]{1,16}/[A-Z0-9.]{1,12}")
"""The form of a WebSocket v2 symbol: `BTC/USD`, `AAPLx/USD`."""

CURRENCY = "currency"
"""The asset class of ordinary pairs."""

TOKENIZED = "tokenized_asset"
"""The asset class of tokenised stocks such as `AAPLx/USD`."""

ASSET_CLASSES = (CURRENCY, TOKENIZED)

VOLUME_UNITS = 8
"""Quantities are integers in units of 1e-8, whatever the pair's own decimals."""

_TOKEN_PATTERN = re.compile(r"[A-Z0-9.]+x")
_FIAT = frozenset({"USD", "EUR", "GBP", "CAD", "JPY", "AUD", "CHF"})
_OLD_ASSETS = frozenset({"BTC", "ETH", "LTC", "XRP", "XLM", "XMR", "ZEC", "ETC", "REP", "MLN"})
_OLD_KEYS = {
    "BTC": ("USD", "EUR", "GBP", "CAD", "JPY"),
    "ETH": ("USD", "EUR", "GBP", "CAD", "JPY", "BTC"),
    "XRP": ("USD", "EUR", "CAD", "JPY", "BTC"),
    "LTC": ("USD", "EUR", "JPY", "BTC"),
    "XLM": ("USD", "EUR", "GBP", "AUD", "BTC"),
    "XMR": ("USD", "EUR", "BTC"),
    "ZEC": ("USD", "EUR", "BTC"),
    "ETC": ("USD", "EUR", "BTC", "ETH"),
    "REP": ("USD", "EUR", "BTC", "ETH"),
    "MLN": ("USD", "EUR", "BTC", "ETH"),
    "EUR": ("USD",),
    "GBP": ("USD",),
    "USD": ("CAD", "JPY"),
    "USDT": ("USD",),
}


@dataclass(frozen=True, slots=True)
class SimulatedPair:
    """A currency pair by its v2 symbol, with the decimals of its prices and of its volumes."""

    symbol: str
    price_decimals: int
    qty_decimals: int = VOLUME_UNITS

    @property
    def base(self) -> str:
        """The v2 base currency: BTC."""
        return self.symbol.split("/")[0]

    @property
    def quote(self) -> str:
        """The v2 quote currency: USD."""
        return self.symbol.split("/")[1]

    @property
    def asset_class(self) -> str:
        """The asset class of the base; tokenised stocks end with a lower case x."""
        return TOKENIZED if _TOKEN_PATTERN.fullmatch(self.base) else CURRENCY

    @property
    def wsname(self) -> str:
        """The legacy name with a slash: `XBT/USD`. WebSocket v2 refuses it if it differs from the symbol."""
        return f"{legacy_name(self.base)}/{legacy_name(self.quote)}"

    @property
    def altname(self) -> str:
        """The legacy name without a slash: `XBTUSD`."""
        return self.wsname.replace("/", "")

    @property
    def key(self) -> str:
        """The key of REST results: `XXBTZUSD` for the pairs of the first years, otherwise the altname."""
        if self.quote in _OLD_KEYS.get(self.base, ()):
            return rest_asset(self.base) + rest_asset(self.quote)
        return self.altname

    @property
    def path_name(self) -> str:
        """The name in a URL path: `BTC-USD`."""
        return self.symbol.replace("/", "-")

    @property
    def names(self) -> frozenset[str]:
        """All names of the pair in REST."""
        return frozenset({self.symbol, self.wsname, self.altname, self.key, self.symbol.replace("/", "")})


def legacy_name(currency: str) -> str:
    """Return the name of a currency in altname and wsname: `XBT` for BTC."""
    return {"BTC": "XBT", "DOGE": "XDG"}.get(currency, currency)


def rest_asset(currency: str) -> str:
    """Return REST's name of a v2 currency: `XXBT`, `ZUSD`, `USDT`."""
    if currency in _FIAT:
        return f"Z{currency}" if currency != "CHF" else currency
    if currency in _OLD_ASSETS or currency == "DOGE":
        return f"X{legacy_name(currency)}"
    return currency
