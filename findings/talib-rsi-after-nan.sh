#!/usr/bin/env bash
# Guess: after a price that is NaN (no data), TA-Lib's indicators are NaN, or recover as those of pandas do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet TA-Lib==0.8.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np, talib

close = 100 + np.sin(np.arange(300.0))
high, low = close + 1, close - 1
for prices in (high, low, close):
    prices[100] = np.nan  # one minute of 300 lacks data
before, after = slice(50, 100), slice(100, None)
macd, rsi, cmo = talib.MACD(close)[0], talib.RSI(close), talib.CMO(close)
plus, minus, adx = talib.PLUS_DI(high, low, close), talib.MINUS_DI(high, low, close), talib.ADX(high, low, close)
print("TA-Lib", talib.__version__, "| the 200 minutes since a NaN")
print("MACD | guess: NaN | seen:", *np.unique(macd[after]))
for name, values in (("RSI", rsi), ("CMO", cmo), ("PLUS_DI", plus), ("MINUS_DI", minus)):
    print(name, "| before it", values[99].round(1), "| guess: NaN | seen:", *np.unique(values[after]))
print("ADX | before it", adx[99].round(1), "| guess: NaN | seen:", *np.unique(adx[after].round(1)))
zeros = all((values[after] == 0).all() and (values[before] != 0).all() for values in (rsi, cmo, plus, minus))
raise SystemExit(not (np.isnan(macd[after]).all() and zeros and (adx[after] == adx[99]).all()))
PYTHON
