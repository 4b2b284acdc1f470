"""The truth: candles computed directly from individual trades, independently of the code that serves candles."""

from collections.abc import Iterable
from decimal import ROUND_DOWN, Decimal

from kraken_simulator.pairs import VOLUME_UNITS
from kraken_simulator.text import NANOS, rfc3339_seconds

TIMEFRAMES = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "4h": 14_400, "1d": 86_400, "1w": 604_800}
"""Seconds of each timeframe; all align to the Unix epoch, so a week opens on Thursday."""


def true_candles(scale: int, trades: Iterable[tuple[int, int, int]], seconds: int) -> list[dict[str, str | int]]:
    """Return the candles of the intervals with trades, oldest first; prices and volume as exact decimal text.

    Prices are in units of `scale` decimals. `trades`: (unix nanoseconds, price, quantity), in order of time within each
    interval.
    """
    by_interval: dict[int, list[tuple[int, int]]] = {}
    for time, price, quantity in trades:
        by_interval.setdefault(time // NANOS // seconds * seconds, []).append((price, quantity))
    return [_candle(scale, open_time, by_interval[open_time]) for open_time in sorted(by_interval)]


def _candle(scale: int, open_time: int, trades: list[tuple[int, int]]) -> dict[str, str | int]:
    prices = [price for price, _ in trades]
    return {
        "open_time": rfc3339_seconds(open_time),
        "open": _text(prices[0], scale),
        "high": _text(max(prices), scale),
        "low": _text(min(prices), scale),
        "close": _text(prices[-1], scale),
        "volume": _text(sum(quantity for _, quantity in trades), VOLUME_UNITS),
        "trades": len(trades),
    }


def _text(units: int, decimals: int) -> str:
    exact = Decimal(units).scaleb(-decimals)
    return f"{exact.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_DOWN):f}"


def truth_json(candles: list[dict[str, str | int]]) -> str:
    """Return the body of `GET /truth`: prices and volume as JSON numbers with their exact decimals."""
    rows = (
        f'{{"open_time":"{c["open_time"]}","open":{c["open"]},"high":{c["high"]},"low":{c["low"]},'
        f'"close":{c["close"]},"volume":{c["volume"]},"trades":{c["trades"]}}}'
        for c in candles
    )
    return f'{{"candles":[{",".join(rows)}]}}'
