"""The reference of the roll-up: `python -m bench.polars_rollup FILE FOLDER`.

polars reads an archive file, groups it into six timeframes with numbers as floats, and writes seven files. It infills
nothing and has no vwap.
"""

import sys
from pathlib import Path

import polars as pl

_COLUMNS = ["time", "open", "high", "low", "close", "volume", "trades"]
_TIMEFRAMES = {"5m": 300, "15m": 900, "1h": 3600, "4h": 14_400, "1d": 86_400, "1w": 604_800}


def main() -> None:
    """Roll up."""
    file, folder = map(Path, sys.argv[1:])
    folder.mkdir(exist_ok=True)
    minutes = pl.read_csv(file, has_header=False, new_columns=_COLUMNS)
    minutes.write_csv(folder / "1m.csv")
    for name, seconds in _TIMEFRAMES.items():
        window = pl.col("time") // seconds * seconds
        bars = minutes.group_by(window, maintain_order=True).agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume", "trades").sum(),
        )
        bars.write_csv(folder / f"{name}.csv")


if __name__ == "__main__":
    main()
