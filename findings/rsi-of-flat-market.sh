#!/usr/bin/env bash
# Guess: the RSI of a market without a trade (flat, infilled candles) is 50 or undefined, in every library the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet TA-Lib==0.8.2 ta==0.11.0 stockstats==0.6.10 \
  pandas-ta-classic==0.8.32 pandas==2.3.3
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata, math, warnings

import pandas as pd, pandas_ta_classic, stockstats, ta.momentum, talib

warnings.simplefilter("ignore")
close = pd.Series(100.0, index=pd.date_range("2023-01-01", periods=60, freq="min"))
candles = pd.DataFrame({"open": close, "high": close, "low": close, "close": close, "volume": 0.0})
seen = {
    "TA-Lib": talib.RSI(close.to_numpy(), 14)[-1],
    "ta": ta.momentum.rsi(close, 14).iloc[-1],
    "stockstats": stockstats.wrap(candles)["rsi_14"].iloc[-1],
    "pandas-ta-classic": pandas_ta_classic.rsi(close, 14, talib=False).iloc[-1],
}
for name, rsi in seen.items():
    print(name, importlib.metadata.version(name), "| RSI of 60 equal prices | guess: 50 or NaN | seen:", float(rsi))
zero, hundred, fifty, undefined = seen.values()
raise SystemExit((zero, hundred, fifty) != (0, 100, 50) or not math.isnan(undefined))
PYTHON
