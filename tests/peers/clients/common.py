"""What the clients' scripts share: their arguments, and how they report what they see."""

import argparse
import json
import time
from typing import Any


def arguments() -> argparse.Namespace:
    """The addresses to use instead of Kraken's, and the symbols to follow."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ws")
    parser.add_argument("rest")
    parser.add_argument("symbols", nargs="+")
    return parser.parse_args()


def kraken_of(kind: Any, asked: argparse.Namespace) -> Any:
    """A ccxt exchange, unmodified but for the address."""
    kraken = kind()
    kraken.urls["api"]["public"] = asked.rest
    if "ws" in kraken.urls["api"]:
        kraken.urls["api"]["ws"]["publicV2"] = asked.ws
    return kraken


_seen: dict[tuple[str, int], list[Any]] = {}


def observed(symbol: str, open_time: int, values: list[Any], trades: int | None = None) -> None:
    """Report a candle as the client gives it, if that is new; `values` are open, high, low, close, volume."""
    state = [*values, trades]
    if _seen.get((symbol, open_time)) != state:
        _seen[symbol, open_time] = state
        row = {"symbol": symbol, "open_time": open_time, "values": values, "trades": trades, "at": time.time()}
        print(json.dumps(row), flush=True)
