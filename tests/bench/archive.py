"""A synthetic archive file of Kraken's form: rows only for minutes that traded, with volumes of eight decimals."""

from pathlib import Path
from random import Random

STARTS = 1_546_300_800
"""The first minute (unix seconds): 2019-01-01, inside a week."""

SHARE = 0.8
"""The share of minutes with trades, as of a pair with millions of rows; a month of BTC/USDC has 0.44."""

_MINUTE = 60


def write_archive(path: Path, seed: int, rows: int) -> int:
    """Write a file of so many rows; returns its number of minutes."""
    random = Random(seed)
    minutes = int(rows / SHARE)
    traded = sorted(random.sample(range(1, minutes - 1), rows - 2))
    price = 1_650_000
    with path.open("w") as file:
        for minute in (0, *traded, minutes - 1):
            prices = [price := max(1000, price + int(random.gauss(0, 150))) for _ in range(4)]
            o, h, low, c = (f"{p // 100}.{p % 100:02d}" for p in (prices[0], max(prices), min(prices), prices[-1]))
            volume, trades = random.expovariate(4) + 1e-8, 1 + int(random.expovariate(0.4))
            file.write(f"{STARTS + minute * _MINUTE},{o},{h},{low},{c},{volume:.8f},{trades}\n")
    return minutes
