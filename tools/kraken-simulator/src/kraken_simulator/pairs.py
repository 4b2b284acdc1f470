"""Currency pairs, their names in Kraken's several dialects, and the default markets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from kraken_simulator.errors import SimulatorError

SYMBOL_PATTERN = re.compile(r"[A-Z0-9.]{1,12}/[A-Z0-9.]{1,12}")
"""What a WebSocket v2 symbol looks like: `BTC/USD`."""

_FIAT = frozenset({"USD", "EUR", "GBP", "CAD", "JPY"})
_LEGACY_BASES = frozenset({"BTC", "ETH", "LTC", "XRP", "XLM", "XMR", "ZEC", "ETC", "REP", "MLN"})


@dataclass(frozen=True, slots=True)
class Pair:
    """A currency pair by its v2 symbol, with the fixed number of decimals of its prices."""

    symbol: str
    price_decimals: int

    @property
    def base(self) -> str:
        """The v2 base currency: BTC."""
        return self.symbol.split("/")[0]

    @property
    def quote(self) -> str:
        """The v2 quote currency: USD."""
        return self.symbol.split("/")[1]

    @property
    def wsname(self) -> str:
        """The legacy name with a slash, refused by v2: `XBT/USD`."""
        return f"{_legacy(self.base)}/{_legacy(self.quote)}"

    @property
    def altname(self) -> str:
        """The legacy name without a slash: `XBTUSD`."""
        return self.wsname.replace("/", "")

    @property
    def key(self) -> str:
        """The key of REST results, `XXBTZUSD` for the oldest assets, otherwise the altname."""
        if self.base in _LEGACY_BASES and (self.quote in _FIAT or self.quote in _LEGACY_BASES):
            return rest_asset(self.base) + rest_asset(self.quote)
        return self.altname

    @property
    def path_name(self) -> str:
        """The name in a URL path: `BTC-USD`."""
        return self.symbol.replace("/", "-")

    @property
    def names(self) -> frozenset[str]:
        """Every name by which REST knows the pair."""
        return frozenset({self.symbol, self.wsname, self.altname, self.key, self.symbol.replace("/", "")})


def _legacy(currency: str) -> str:
    return {"BTC": "XBT", "DOGE": "XDG"}.get(currency, currency)


def rest_asset(currency: str) -> str:
    """Return REST's name of a v2 currency: `XXBT`, `ZUSD`, `USDT`."""
    if currency in _FIAT:
        return f"Z{currency}"
    if currency in _LEGACY_BASES or currency == "DOGE":
        return f"X{_legacy(currency)}"
    return currency


@dataclass(frozen=True, slots=True)
class Profile:
    """How a synthetic market behaves: its usual price, how often it trades, how far it moves in a day."""

    pair: Pair
    price: Decimal
    trades_per_minute: float
    daily_volatility: float = 0.03


DEFAULT_PROFILES = (
    Profile(Pair("BTC/USD", 1), Decimal("77400.0"), 180.0),
    Profile(Pair("ETH/USD", 2), Decimal("3120.00"), 120.0, 0.04),
    Profile(Pair("SOL/USD", 2), Decimal("142.50"), 20.0, 0.05),
    Profile(Pair("BTC/USDC", 2), Decimal("77390.00"), 8.0),
    Profile(Pair("XRP/GBP", 5), Decimal("1.61800"), 0.5, 0.05),
    Profile(Pair("DOGE/USD", 7), Decimal("0.1604100"), 0.4, 0.06),
    Profile(Pair("ADA/EUR", 6), Decimal("0.412300"), 0.25, 0.05),
    Profile(Pair("NANO/EUR", 4), Decimal("0.7842"), 0.025, 0.05),
)
"""Two busy markets, two medium ones, three that trade every few minutes and one that is nearly dead."""

# fmt: off
_LOAD_BASES = (
    "LTC", "LINK", "DOT", "AVAX", "ATOM", "TRX", "XLM", "XMR", "UNI", "AAVE", "ALGO", "FIL", "NEAR", "APT", "ARB",
    "OP", "SUI", "TIA", "INJ", "GRT", "MKR", "SNX", "CRV", "COMP", "ETC", "BCH", "ZEC", "DASH", "EOS", "XTZ", "KSM",
    "FLOW", "MANA", "SAND", "AXS", "CHZ", "ENJ", "BAT", "ZRX", "OMG", "ICX", "QTUM", "LSK", "SC", "STORJ", "OCEAN",
    "RUNE", "KAVA", "FET", "RENDER", "IMX", "LDO", "PEPE", "SHIB", "BONK", "WIF", "JUP", "PYTH", "ENA", "STRK",
)
# fmt: on
_LOAD_QUOTES = ("USD", "EUR", "USDT", "GBP", "USDC", "BTC")


def default_profiles(count: int) -> tuple[Profile, ...]:
    """Return the first `count` synthetic markets: the default ones, then ever thinner ones for load tests."""
    profiles = tuple(profile for _, profile in zip(range(count), _endless_profiles(), strict=False))
    if len(profiles) < count:
        message = f"symbols: expected at most {len(profiles)} synthetic pairs, was {count}"
        raise SimulatorError(message)
    return profiles


def profile_of(symbol: str) -> Profile:
    """Return the profile of a synthetic market by its name; an unlisted name gets a middling one."""
    if not SYMBOL_PATTERN.fullmatch(symbol):
        message = f"symbols: expected pairs such as BTC/USD, was {symbol!r}"
        raise SimulatorError(message)
    known = {profile.pair.symbol: profile for profile in _endless_profiles()}
    return known.get(symbol, Profile(Pair(symbol, 4), Decimal("10.0000"), 6.0, 0.05))


def _endless_profiles() -> Iterator[Profile]:
    yield from DEFAULT_PROFILES
    for rank, (quote, base) in enumerate((quote, base) for quote in _LOAD_QUOTES for base in _LOAD_BASES):
        price, decimals = ((Decimal("24.1800"), 4), (Decimal("0.381200"), 6), (Decimal("412.60"), 2))[rank % 3]
        yield Profile(Pair(f"{base}/{quote}", decimals), price, 30.0 / (1 + rank / 4), 0.05)
