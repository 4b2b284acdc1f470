#!/usr/bin/env bash
# Guess: candles with a column of pandas times arrive with their times, with pandas 3 as with pandas 2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/times.py" <<'PYTHON'
import http.server, re, sys, threading, warnings

import influxdb, pandas as pd
from lightweight_charts.widgets import JupyterChart

warnings.simplefilter("ignore")
bodies = []


class Server(http.server.BaseHTTPRequestHandler):  # keeps the line protocol that a client writes
    def do_POST(self):
        bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
times = pd.to_datetime(["2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"])
candles = pd.DataFrame({"open": 1.5, "high": 1.5, "low": 1.5, "close": 1.5}, index=times)
influxdb.DataFrameClient(port=server.server_port, database="db").write_points(candles, "candles")
written = [pd.Timestamp(int(line.split()[-1])) for line in bodies[0].split("\n") if line]
chart = JupyterChart()
chart.set(candles.rename_axis("time").reset_index())
drawn = [pd.Timestamp(int(text), unit="s") for text in re.findall(r'"time": ?(\d+)', chart._html)]
print("pandas", pd.__version__, "with", times.dtype, "| guess: 2024-01-01 00:00 and 00:01")
print("influxdb", influxdb.__version__, "DataFrameClient | seen:", *map(str, written))
print("lightweight-charts 2.1 (Python) | seen:", *map(str, drawn))
years = [{time.year for time in found} for found in (written, drawn)]
raise SystemExit(years != [{int(sys.argv[1])}] * 2)
PYTHON
check() {
  python3 -m venv "$folder/$1"
  "$folder/$1/bin/pip" install --quiet "pandas==$1" influxdb==5.3.2 lightweight-charts==2.1
  "$folder/$1/bin/python" "$folder/times.py" "$2"
}
check 2.3.3 2024
check 3.1.1 1970
