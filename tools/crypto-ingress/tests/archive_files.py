"""Archive files for tests, and what is made of them."""

from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import polars as pl

from crypto_ingress.history.files import find_files
from crypto_ingress.history.reading import candle_blocks
from crypto_ingress.history.rollup import roll_up
from crypto_ingress.history.weeks import in_weeks
from ingress_common.timeframes import Timeframe

PRICES = ("open", "high", "low", "close", "volume", "vwap")


def write_minutes(path: Path, rows: list[tuple]) -> Path:
    """A file of `time, open, high, low, close, volume, trades`."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def rolled_up(path: Path, symbol: str = "A/B") -> dict[Timeframe, list[tuple]]:
    """The candles that a file makes: time, prices, volume and vwap as Decimal, trades, infilled."""
    (file,) = find_files([path], symbol).files
    frames = defaultdict(list)
    for weeks in in_weeks(candle_blocks(file, 60)):
        for timeframe, candles in roll_up(weeks):
            frames[timeframe].append(candles)
    return {timeframe: _rows(pl.concat(parts)) for timeframe, parts in frames.items()}


def _rows(candles: pl.DataFrame) -> list[tuple]:
    return [
        (time, *map(Decimal, numbers), trades, infilled) for time, *numbers, trades, infilled in candles.iter_rows()
    ]
