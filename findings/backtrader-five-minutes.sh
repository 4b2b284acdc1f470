#!/usr/bin/env bash
# Guess: five 1m candles of an exchange, 00:00 to 00:04 by the time each begins, become one 5m candle.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet backtrader==1.9.78.123 pandas==2.3.3
"$folder/venv/bin/python" - <<'PYTHON'
import backtrader as bt, pandas as pd

times = pd.date_range("2023-01-01", periods=15, freq="min")
price = pd.Series(range(100, 115), index=times, dtype=float)
minutes = pd.DataFrame({"open": price, "high": price, "low": price, "close": price, "volume": 1.0})


def candles(**settings):
    class Seen(bt.Strategy):
        rows = []

        def next(self):
            data = self.data
            self.rows.append((f"{data.datetime.time(0):%H:%M}", data.open[0], data.close[0], data.volume[0]))

    cerebro = bt.Cerebro()
    feed = bt.feeds.PandasData(dataname=minutes, timeframe=bt.TimeFrame.Minutes, compression=1)
    cerebro.resampledata(feed, timeframe=bt.TimeFrame.Minutes, compression=5, **settings)
    cerebro.addstrategy(Seen)
    cerebro.run()
    return Seen.rows


seen, moved = candles(), candles(boundoff=1)
print("backtrader", bt.__version__, "| (time, open, close, volume) of 5m from minutes at 100, 101, ...")
print("guess: 100 to 104, 105 to 109, ... | seen:", *seen)
print("with boundoff=1:", *moved)
first = [("00:00", 100, 100, 1), ("00:05", 101, 105, 5), ("00:10", 106, 110, 5)]
raise SystemExit(seen[:3] != first or [row[1:3] for row in moved] != [(100, 104), (105, 109), (110, 114)])
PYTHON
