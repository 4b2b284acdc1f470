#!/usr/bin/env bash
# Guess: a moving sum over a window that holds only zeros is 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet polars==2.1.0 datafusion==55.0.0 pandas==2.3.3 duckdb==2.0.1 pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import datafusion, duckdb, pandas as pd, polars as pl, pyarrow as pa

# Eight minutes in which something trades, then eight quiet ones, and so on.
volume = [n * 104_729 % 99_999_989 / 1e8 if n // 8 % 2 else 0.0 for n in range(8_000)]
quiet = [n for n in range(4, 8_000) if not any(volume[n - 4 : n + 1])]
rows = pa.table({"time": range(8_000), "volume": volume})
sql = "SELECT sum(volume) OVER (ORDER BY time ROWS BETWEEN 4 PRECEDING AND CURRENT ROW) AS v FROM minutes ORDER BY time"
context = datafusion.SessionContext()
context.register_record_batches("minutes", [rows.to_batches()])
duckdb.register("minutes", rows)
sums = {
    f"polars {pl.__version__}": pl.Series(volume).rolling_sum(5).to_list(),
    f"DataFusion {datafusion.__version__}": [row["v"] for row in context.sql(sql).to_pylist()],
    f"pandas {pd.__version__}": pd.Series(volume).rolling(5).sum().to_list(),
    f"DuckDB {duckdb.__version__}": [v for (v,) in duckdb.sql(sql).fetchall()],
}
seen = {tool: sum(found[n] != 0 for n in quiet) for tool, found in sums.items()}
for tool, wrong in seen.items():
    print(tool, "| sums of five zeros that are not 0, of", len(quiet), "| guess: 0 | seen:", wrong)
zero = [value == 0 for value in seen.values()]
raise SystemExit(zero != [False, False, True, True])
PYTHON
