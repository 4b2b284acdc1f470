#!/usr/bin/env bash
# Guess: a product of two decimals is exact; its scale is the sum of the two scales, as in SQL.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet polars==2.1.0
"$folder/venv/bin/python" - <<'PYTHON'
from decimal import Decimal
import polars as pl

candle = pl.DataFrame({"vwap": ["1.5"], "volume": ["0.00000001"]}).select(
    pl.col("vwap").cast(pl.Decimal(38, 2)), pl.col("volume").cast(pl.Decimal(38, 8))
)
product = candle.select(pl.col("vwap") * pl.col("volume"))
seen = product.item(), product.dtypes[0].scale
print("polars", pl.__version__, "| 1.50 * 0.00000001 | guess:", Decimal("0.000000015"), "with scale 10 | seen:", *seen)
raise SystemExit(seen != (Decimal("0.00000002"), 8))
PYTHON
