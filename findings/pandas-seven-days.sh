#!/usr/bin/env bash
# Guess: resample("7D") gives the same weeks whatever range is loaded, as resample("1D") and resample("4h") do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pandas==2.3.3
"$folder/venv/bin/python" - <<'PYTHON'
import pandas as pd

days = pd.Series(1, index=pd.date_range("2023-01-01", periods=28, freq="D", tz="UTC"))
weeks = {str(day.date()) for day in days.resample("7D").sum().index}
later = {str(day.date()) for day in days.iloc[2:].resample("7D").sum().index}
print("pandas", pd.__version__, "| weeks of January, loaded from the 1st and from the 3rd | guess: shared | seen in common:", weeks & later)
anchored = days.resample("7D", origin="epoch").sum().index, days.iloc[2:].resample("7D", origin="epoch").sum().index
print("with origin='epoch' the later load's weeks are among the others:", set(anchored[1]) <= set(anchored[0]))
raise SystemExit(bool(weeks & later) or not set(anchored[1]) <= set(anchored[0]))
PYTHON
