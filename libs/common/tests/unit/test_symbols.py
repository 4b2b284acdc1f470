"""Matching of symbol patterns, and correction of wrong names."""

import pytest

from ingress_common.symbols import matches, right_name


@pytest.mark.parametrize(
    ("patterns", "symbol", "expected"),
    [
        (["BTC/USD"], "BTC/USD", True),
        (["BTC/USD"], "BTC/USDT", False),
        (["ETH/EUR", "*/USD"], "AAPLx/USD", True),
        (["BTC/*"], "BTC/USD", True),
        (["BTC/*"], "WBTC/USD", False),
        (["*"], "BTC/USD", True),
        ([], "BTC/USD", False),
    ],
)
def test_pattern_matches_the_symbols_that_it_describes(patterns, symbol, expected):
    assert matches(patterns, symbol) is expected


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("XBT/USD", "BTC/USD"),
        ("ETH/XBT", "ETH/BTC"),
        ("XDG/USD", "DOGE/USD"),
        ("btc/usd", "BTC/USD"),
        ("Btc/Usd", "BTC/USD"),
        ("BTCUSD", "BTC/USD"),
        ("XBTUSDT", "BTC/USDT"),
        ("XXBTZUSD", "BTC/USD"),
        ("XETHXXBT", "ETH/BTC"),
        ("xltczeur", "LTC/EUR"),
        ("ZEURZUSD", "EUR/USD"),
        ("ZETAUSDT", "ZETA/USDT"),
        ("AAPLxUSD", "AAPLx/USD"),
        ("BTC-USD", "BTC/USD"),
        ("xbt_usdt", "BTC/USDT"),
        ("BTC:USD", "BTC/USD"),
        ("xbt/*", "BTC/*"),
        ("*/usd", "*/USD"),
    ],
)
def test_wrong_name_is_corrected(name, meant):
    assert right_name(name) == meant
    assert right_name(meant) == meant


@pytest.mark.parametrize(
    "name", ["BTC/USD", "AAPLx/USD", "AIXBT/USD", "USDT/USD", "*", "*/USD", "BRK.Bx/USD", "nonsense"]
)
def test_right_name_is_unchanged(name):
    assert right_name(name) == name
