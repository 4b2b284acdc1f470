#!/usr/bin/env bash
# Guess: volumes that are whole numbers at first (quiet minutes: 0) and then have digits are read as floats, or refused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet polars==2.1.0 duckdb==2.0.1 datafusion==55.0.0 pyarrow==26.0.1 pandas==2.3.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json, pathlib, tempfile

import datafusion, duckdb, pandas as pd, polars as pl, pyarrow as pa, pyarrow.json

# As JavaScript and Go write them, and Python where an infilled minute has the integer 0: no decimal point.
rows = [{"time": n, "volume": 0} for n in range(30_000)] + [{"time": 30_000, "volume": 0.75}]
folder = pathlib.Path(tempfile.mkdtemp(dir="."))
lines, array, table = (str(folder / name) for name in ("rows.ndjson", "rows.json", "rows.csv"))
pathlib.Path(lines).write_text("".join(json.dumps(row) + "\n" for row in rows))
pathlib.Path(array).write_text(json.dumps(rows))
pathlib.Path(table).write_text("time,volume\n" + "".join(f"{row['time']},{row['volume']}\n" for row in rows))


def refused(read):
    try:
        return read()
    except Exception as error:
        return type(error).__name__


def last(source):
    return duckdb.sql(f"SELECT volume FROM {source} ORDER BY time DESC LIMIT 1").fetchall()[0][0]


def by_datafusion():
    context = datafusion.SessionContext()
    context.register_json("rows", lines, file_extension=".ndjson")
    return context.sql("SELECT volume FROM rows ORDER BY time DESC LIMIT 1").to_pylist()[0]["volume"]


seen = {
    "polars DataFrame(rows)": pl.DataFrame(rows)["volume"][-1],
    "polars read_json": pl.read_json(array)["volume"][-1],
    "polars read_ndjson": refused(lambda: pl.read_ndjson(lines)["volume"][-1]),
    "polars read_csv": refused(lambda: pl.read_csv(table)["volume"][-1]),
    "DuckDB read_json": last(f"read_json('{lines}')"),
    "DuckDB read_csv": last(f"read_csv('{table}')"),
    "DataFusion JSON": by_datafusion(),
    "pyarrow JSON": pyarrow.json.read_json(lines)["volume"][-1].as_py(),
    "pandas JSON": float(pd.read_json(lines, lines=True)["volume"].iloc[-1]),
}
versions = {module.__name__: module.__version__ for module in (pl, duckdb, datafusion, pa, pd)}
print(*(" ".join(pair) for pair in versions.items()), sep=", ")
for reader, volume in seen.items():
    print(reader, "| the volume 0.75 after 30,000 times 0 | guess: 0.75 or an error | seen:", volume)
raise SystemExit(list(seen.values()) != [0, 0, "ComputeError", "ComputeError", 1, 1, 0, 0.75, 0.75])
PYTHON
