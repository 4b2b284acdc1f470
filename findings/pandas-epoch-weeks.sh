#!/usr/bin/env bash
# Guess: resample("7D", origin="epoch") aligns weeks to the Unix epoch, with a time zone too: as "168h" does, and both in pandas 2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/weeks.py" <<'PYTHON'
import sys, warnings

import pandas as pd

warnings.simplefilter("ignore", RuntimeWarning)  # pandas 3 warns that the origin does not take effect
days = pd.Series(1, index=pd.date_range("2023-01-03", periods=10, freq="D", tz="UTC"))
seen = {rule: f"{days.resample(rule, origin='epoch').sum().index[0]:%A, %F}" for rule in ("7D", "168h")}
print("pandas", pd.__version__, "| first week from 2023-01-03 in UTC | guess: Thursday, 2022-12-29 | seen:", seen)
raise SystemExit(seen != {"7D": sys.argv[1], "168h": "Thursday, 2022-12-29"})
PYTHON
check() {
  python3 -m venv "$folder/$1"
  "$folder/$1/bin/pip" install --quiet "pandas==$1"
  "$folder/$1/bin/python" "$folder/weeks.py" "$2"
}
check 2.3.3 "Thursday, 2022-12-29"
check 3.1.1 "Tuesday, 2023-01-03"
