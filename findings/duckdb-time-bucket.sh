#!/usr/bin/env bash
# Guess: time_bucket of 7 days aligns to the Unix epoch, as date_bin does elsewhere, and as its own buckets of a day do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.1 datafusion==55.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import datafusion, duckdb

bucket = duckdb.sql("SELECT time_bucket(INTERVAL 7 DAY, TIMESTAMP '2023-01-04 00:00:00')").fetchall()[0][0].date()
bin_ = datafusion.SessionContext().sql("SELECT date_bin(INTERVAL '7 days', TIMESTAMP '2023-01-04T00:00:00') AS w").to_pylist()[0]["w"].date()
print("DuckDB", duckdb.__version__, "| 7 days of 2023-01-04 | guess: Thursday, 2022-12-29 | seen:", f"{bucket:%A, %F}")
print("DataFusion", datafusion.__version__, "| the same | seen:", f"{bin_:%A, %F}")
raise SystemExit((str(bucket), str(bin_)) != ("2023-01-02", "2022-12-29"))
PYTHON
