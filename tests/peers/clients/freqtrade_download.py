"""freqtrade: `download-data` after the script, from Kraken's trades as its documentation wants it for Kraken."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import arguments, observed

asked = arguments()
with tempfile.TemporaryDirectory() as folder:
    config = {
        "exchange": {
            "name": "kraken",
            "pair_whitelist": asked.symbols,
            "ccxt_config": {"urls": {"api": {"public": asked.rest, "private": asked.rest}}},
        },
        "stake_currency": "USD",
        "dry_run": True,
        "dataformat_ohlcv": "json",
        "dataformat_trades": "json",
    }
    path = Path(folder) / "config.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "freqtrade", "download-data", "--config", str(path), "--userdir", folder]
    command += ["--dl-trades", "--days", "1", "--timeframes", "1m", "--pairs", *asked.symbols]
    subprocess.run([sys.executable, "-m", "freqtrade", "create-userdir", "--userdir", folder], check=True, stdout=2)
    subprocess.run(command, check=True, stdout=2)
    for symbol in asked.symbols:
        found = sorted(Path(folder).glob(f"data/kraken/{symbol.replace('/', '_')}-1m.json"))
        for row in json.loads(found[0].read_text()) if found else ():
            observed(symbol, row[0] // 1_000, row[1:6])
