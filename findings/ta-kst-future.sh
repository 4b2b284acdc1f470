#!/usr/bin/env bash
# Guess: KST of a candle that closed does not change with later candles; rows without enough history are NaN.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ta==0.11.0 pandas==2.3.3
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import pandas as pd
from ta.trend import kst

past = [100.0 + n for n in range(60)]
ends = {price: kst(pd.Series(past + [price] * 40)) for price in (50.0, 5_000.0)}
row = 30  # needs prices from 44 rows before it: there are 30
seen = [round(float(values[row]), 1) for values in ends.values()]
print("ta", importlib.metadata.version("ta"), f"| KST of row {row}, when the price is 50 or 5,000 thirty rows later")
print("guess: NaN, or the same twice | seen:", *seen)
low, high = ends.values()
changed = [n for n in range(60) if abs(low[n] - high[n]) > 1e-6]
print("rows whose KST the later prices change:", changed[0], "to", changed[-1])
raise SystemExit((changed[0], changed[-1]) != (14, 43) or not seen[0] > 0 > seen[1])
PYTHON
