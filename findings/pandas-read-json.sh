#!/usr/bin/env bash
# Guess: pandas.read_json reads back the floats that json.dumps wrote, as read_csv does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pandas==2.3.3
"$folder/venv/bin/python" - <<'PYTHON'
import io, json
import pandas as pd

volumes = [n * 104_729 % 99_999_989 / 1e8 for n in range(1, 10_001)]
text = json.dumps([{"volume": volume} for volume in volumes])
wrong = sum(a != b for a, b in zip(pd.read_json(io.StringIO(text)).volume, volumes))
precise = sum(a != b for a, b in zip(pd.read_json(io.StringIO(text), precise_float=True).volume, volumes))
table = sum(a != b for a, b in zip(pd.read_csv(io.StringIO("volume\n" + "\n".join(map(repr, volumes)))).volume, volumes))
print("pandas", pd.__version__, "| volumes of 10,000 that differ | guess: 0 | seen:", wrong, "| with precise_float:", precise, "| by read_csv:", table)
raise SystemExit(not (wrong > 100 and precise == 0))
PYTHON
