#!/usr/bin/env bash
# Guess: max(high) does not depend on the order of rows or on GROUP BY, whether a NaN (no data) counts as largest or is ignored.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datafusion==55.0.0 pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import itertools, math

import datafusion, pyarrow as pa

minutes = pa.table({"time": pa.array([0, 60, 120], pa.timestamp("s"))})
sql = "SELECT max(price) AS high, min(price) AS low FROM minutes"
seen = {"": [], " GROUP BY date_bin(INTERVAL '5 minutes', time)": []}
for prices in itertools.permutations([1.0, 2.0, math.nan]):
    context = datafusion.SessionContext()
    context.register_record_batches("minutes", [minutes.append_column("price", pa.array(prices)).to_batches()])
    for group, rows in seen.items():
        row = context.sql(sql + group).to_pylist()[0]
        rows.append((row["high"], row["low"]))
print("DataFusion", datafusion.__version__, "| (max, min) of 1, 2 and NaN in six orders | guess: one pair each")
for group, rows in seen.items():
    print((group.strip() or "no GROUP BY") + " | seen:", *sorted(set(map(str, rows))))
whole, grouped = (set(map(str, rows)) for rows in seen.values())
raise SystemExit(whole != {"(nan, 1.0)"} or grouped != {"(1.0, 1.0)", "(2.0, 1.0)", "(2.0, 2.0)", "(nan, nan)"})
PYTHON
