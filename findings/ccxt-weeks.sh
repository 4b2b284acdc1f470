#!/usr/bin/env bash
# Guess: 1w and 7d are the same timeframe, since parse_timeframe gives 604,800 s for both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ccxt==4.5.90
"$folder/venv/bin/python" - <<'PYTHON'
import ccxt

Exchange, instant = ccxt.Exchange, 1_673_092_800_000  # Saturday, 2023-01-07, 12:00
lengths = Exchange.parse_timeframe("1w"), Exchange.parse_timeframe("7d")
seen = [Exchange.ymd(Exchange.round_timeframe(name, instant)) for name in ("1w", "7d")]
print("ccxt", ccxt.__version__, "| seconds of 1w and 7d:", *lengths, "| their week of 2023-01-07 | guess: one day | seen:", *seen)
raise SystemExit(lengths[0] != lengths[1] or seen != ["2023-01-02", "2023-01-05"])
PYTHON
