"""Speed as ratios, each pair measured side by side on the same machine: `python tests/bench/bench.py [ARCHIVE.csv]`.

Absolute figures vary with the machine and its load; a ratio that moves says that something changed.
"""

import csv
import json
import statistics
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from crypto_ingress.archive import read_archive
from crypto_ingress.rollup import roll_up_archive
from ingress_common.model import Candle, Source
from ingress_common.payloads import decode_candle, encode_candle
from ingress_common.timeframes import Timeframe

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "archive" / "XBTUSDC_1.csv"


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(name: str, ours: Callable[[], object], other: Callable[[], object], rounds: int = 7) -> None:
    """The median ratio of the two, run in turn."""
    ratios = [seconds(ours) / seconds(other) for _ in range(rounds)]
    print(f"{name}: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    price = Decimal("51600.1")
    candle = Candle(
        "BTC/USD", Timeframe.M5, 1708827300, price, price, price, price, Decimal("1.20480000"), price, 17,
        closed=True, infilled=False, complete=True, revision=0, source=Source.ROLLUP, at=1708827601.104211,
    )  # fmt: skip
    payload = encode_candle(candle)
    many = range(5000)
    compare(
        "decode and check a candle / json.loads with exact decimals",
        lambda: [decode_candle(payload) for _ in many],
        lambda: [json.loads(payload, parse_float=Decimal) for _ in many],
    )
    fields = json.loads(payload)
    compare(
        "encode a candle / json.dumps of it with floats",
        lambda: [encode_candle(candle) for _ in many],
        lambda: [json.dumps(fields) for _ in many],
    )
    archive = Path(sys.argv[1]) if len(sys.argv) > 1 else ARCHIVE
    if not archive.exists():
        print(f"roll up an archive: skipped, there is no {archive}")
        return
    minutes = list(read_archive(archive, "BTC/USDC", 0.0))

    def read_csv() -> None:
        with archive.open() as file:
            for row in csv.reader(file):
                [Decimal(value) for value in row[1:6]]

    compare(
        "roll up an archive into 7 timeframes / read its rows as decimals",
        lambda: sum(1 for _ in roll_up_archive("BTC/USDC", minutes)),
        read_csv,
        rounds=3,
    )


if __name__ == "__main__":
    main()
