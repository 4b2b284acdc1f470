"""The profiles of the synthetic markets: price, activity, volatility.

The distribution of activity follows Kraken's: a public recording of REST's Ticker counts 44,000 trades in 24 hours for
BTC/USD, 18,700, 15,300 and 14,000 for the next three, 4,900 for XLM/USD, 1,100 for NEAR/USD, 675 for INJ/USD and 36 for
1INCH/EUR. So activity falls like 1/rank, and faster beyond some hundred pairs, most of which are nearly dead.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice, product

from kraken_simulator.errors import SimulatorError
from kraken_simulator.pairs import SYMBOL_PATTERN, TOKENIZED, SimulatedPair

MAX_SYMBOLS = 5_000
"""Maximum number of synthetic pairs."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The behaviour of a synthetic market: usual price, trades per minute, daily volatility (fraction of the price)."""

    pair: SimulatedPair
    price: Decimal
    trades_per_minute: float
    daily_volatility: float = 0.03


DEFAULT_PROFILES = (
    Profile(SimulatedPair("BTC/USD", 1), Decimal("77400.0"), 180.0),
    Profile(SimulatedPair("ETH/USD", 2), Decimal("3120.00"), 120.0, 0.04),
    Profile(SimulatedPair("SOL/USD", 2), Decimal("142.50"), 20.0, 0.05),
    Profile(SimulatedPair("BTC/USDC", 2), Decimal("77390.00"), 8.0),
    Profile(SimulatedPair("XRP/GBP", 5), Decimal("1.61800"), 0.5, 0.05),
    Profile(SimulatedPair("DOGE/USD", 7), Decimal("0.1604100"), 0.4, 0.06),
    Profile(SimulatedPair("ADA/EUR", 6), Decimal("0.412300"), 0.25, 0.05),
    Profile(SimulatedPair("NANO/EUR", 4), Decimal("0.7842"), 0.025, 0.05),
)
"""Two busy markets, two medium ones, three that trade every few minutes and a nearly dead one."""

# fmt: off
_LOAD_BASES = (
    "LTC", "LINK", "DOT", "AVAX", "ATOM", "TRX", "XLM", "XMR", "UNI", "AAVE", "ALGO", "FIL", "NEAR", "APT", "ARB",
    "OP", "SUI", "TIA", "INJ", "GRT", "MKR", "SNX", "CRV", "COMP", "ETC", "BCH", "ZEC", "DASH", "EOS", "XTZ", "KSM",
    "FLOW", "MANA", "SAND", "AXS", "CHZ", "ENJ", "BAT", "ZRX", "OMG", "ICX", "QTUM", "LSK", "SC", "STORJ", "OCEAN",
    "RUNE", "KAVA", "FET", "RENDER", "IMX", "LDO", "PEPE", "SHIB", "BONK", "WIF", "JUP", "PYTH", "ENA", "STRK",
)
_STOCKS = (
    "AAPL", "TSLA", "NVDA", "SPY", "QQQ", "MSFT", "AMZN", "GOOGL", "META", "COIN", "MSTR", "HOOD", "GLD", "NFLX",
    "AMD", "PLTR", "CRCL", "GME", "INTC", "ORCL", "JPM", "KO", "PEP", "MCD", "WMT", "XOM", "CVX", "PFE", "JNJ", "V",
)
# fmt: on
_LOAD_QUOTES = ("USD", "EUR", "USDT", "GBP", "USDC", "BTC")
_MADE_QUOTES = ("USD", "EUR")
_LETTERS, _VOWELS = "BDFGKLMNPRSTVZ", "AEIOU"
_TAIL_FROM = 360
_TAIL_EXPONENT = 1.5
_SHORT_VOLUMES = 5
_PRICES = ((Decimal("24.1800"), 4), (Decimal("0.381200"), 6), (Decimal("412.60"), 2))


def default_profiles(count: int) -> tuple[Profile, ...]:
    """Return the first `count` synthetic markets: the default ones, then less and less active ones for load tests."""
    if count > MAX_SYMBOLS:
        message = f"symbols: expected at most {MAX_SYMBOLS} synthetic pairs, was {count}"
        raise SimulatorError(message)
    return tuple(islice(_endless_profiles(), count))


def tokenized_profiles(count: int) -> tuple[Profile, ...]:
    """Return the first `count` tokenised stocks: `AAPLx/USD` and so on."""
    if count > len(_STOCKS):
        message = f"tokenized: expected at most {len(_STOCKS)} tokenised pairs, was {count}"
        raise SimulatorError(message)
    return tuple(_tokenized(f"{stock}x/USD", rank) for rank, stock in enumerate(_STOCKS[:count]))


def profile_of(symbol: str) -> Profile:
    """Return the profile of a synthetic market by its symbol; an unknown symbol gets a medium one."""
    if not SYMBOL_PATTERN.fullmatch(symbol):
        message = f"symbols: expected pairs such as BTC/USD, was {symbol!r}"
        raise SimulatorError(message)
    known = {profile.pair.symbol: profile for profile in islice(_endless_profiles(), MAX_SYMBOLS)}
    if symbol in known:
        return known[symbol]
    if SimulatedPair(symbol, 2).asset_class == TOKENIZED:
        return _tokenized(symbol, 0)
    return Profile(SimulatedPair(symbol, 4), Decimal("10.0000"), 6.0, 0.05)


def _tokenized(symbol: str, rank: int) -> Profile:
    return Profile(SimulatedPair(symbol, 2), Decimal("212.40"), 12.0 / (1 + rank), 0.02)


def _endless_profiles() -> Iterator[Profile]:
    yield from DEFAULT_PROFILES
    taken = {profile.pair.symbol for profile in DEFAULT_PROFILES}
    for rank, symbol in enumerate(symbol for symbol in dict.fromkeys(_load_symbols()) if symbol not in taken):
        price, decimals = _PRICES[rank % 3]
        # The first are like old pairs, whose volumes have 8 decimals; two thirds of the later ones have 5.
        short = rank >= _TAIL_FROM and rank % 3 != 0
        pair = SimulatedPair(symbol, decimals, _SHORT_VOLUMES) if short else SimulatedPair(symbol, decimals)
        yield Profile(pair, price, _trades_per_minute(rank), 0.05)


def _trades_per_minute(rank: int) -> float:
    return 30.0 / (1 + rank / 4) * math.pow(min(1.0, _TAIL_FROM / (rank + 1)), _TAIL_EXPONENT)


def _load_symbols() -> Iterator[str]:
    for quote, base in product(_LOAD_QUOTES, _LOAD_BASES):
        yield f"{base}/{quote}"
    syllables = tuple(f"{letter}{vowel}" for letter, vowel in product(_LETTERS, _VOWELS))
    for first, second in product(syllables, syllables):
        for quote in _MADE_QUOTES:
            yield f"{first}{second}/{quote}"
