#!/usr/bin/env bash
# Guess: ClickHouse's functions for the start of a week agree on the day that a week starts with.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet chdb==4.4.0
"$folder/venv/bin/python" - <<'PYTHON'
import chdb

text = """SELECT version(), toDate(toStartOfWeek(t)), toDate(toStartOfInterval(t, INTERVAL 1 WEEK)), toDate(toStartOfInterval(t, INTERVAL 7 DAY))
FROM (SELECT toDateTime('2023-01-07 12:00:00', 'UTC') AS t)"""
version, *seen = str(chdb.query(text, "TSV")).split()
print("ClickHouse", version, "| the week of Saturday, 2023-01-07, by toStartOfWeek, 1 WEEK, 7 DAY | guess: one day | seen:", *seen)
raise SystemExit(seen != ["2023-01-01", "2023-01-02", "2023-01-05"])
PYTHON
