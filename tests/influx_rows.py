"""Reads InfluxDB without any of our code."""

import csv
import io
import urllib.request
from collections.abc import Iterator

from servers import InfluxPlace


def query(place: InfluxPlace, org: str, flux: str, seconds: float = 30) -> Iterator[dict[str, str]]:
    """The rows of the query `flux`; OSError if the server does not respond in `seconds`."""
    request = urllib.request.Request(
        f"{place.url.replace('influxdb', 'http', 1)}/api/v2/query?org={org}",
        data=flux.encode(),
        headers={
            "Authorization": f"Token {place.token}",
            "Content-Type": "application/vnd.flux",
            "Accept": "application/csv",
        },
    )
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        text = answer.read().decode()
    # Each group of columns begins with a header of its own.
    for table in text.replace("\r\n", "\n").strip().split("\n\n"):
        yield from csv.DictReader(io.StringIO(table))


def stored_rows(place: InfluxPlace, org: str, timeframe: str, seconds: float = 30) -> Iterator[dict[str, str]]:
    """Every candle of the timeframe's bucket, one row for each time of each series."""
    flux = (
        f'from(bucket: "candles_{timeframe}") |> range(start: 0, stop: 2100-01-01T00:00:00Z) '
        '|> filter(fn: (r) => r._measurement == "candle") '
        '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
    )
    yield from query(place, org, flux, seconds)
