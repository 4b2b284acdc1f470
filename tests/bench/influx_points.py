"""InfluxDB for a run: its buckets, and the number of written points."""

import re
import time
from types import TracebackType
from typing import Self

import httpx

from ingress_common.timeframes import TIMEFRAMES
from servers import InfluxServer

_WRITTEN = re.compile(r"^storage_writer_ok_points_sum\{[^}]*\} (\S+)$", re.MULTILINE)
_LOOK_SECONDS = 0.1
_QUERY_SECONDS = 600.0
_ROWS_SECONDS = 10.0


class InfluxPoints:
    """A client of `server` with our buckets, without tasks, which would run in one round and not in another."""

    def __init__(self, server: InfluxServer) -> None:
        place = server.place
        self.url = place.url.replace("influxdb", "http", 1)
        self.token = place.token
        self._http = httpx.Client(base_url=self.url, headers={"Authorization": f"Token {place.token}"}, timeout=30)
        organisation = self._http.get("/api/v2/orgs").raise_for_status().json()["orgs"][0]
        self.organisation: str = organisation["name"]
        for bucket in (*(f"candles_{timeframe.value}" for timeframe in TIMEFRAMES), "ticks_1m"):
            body = {"orgID": organisation["id"], "name": bucket, "retentionRules": []}
            self._http.post("/api/v2/buckets", json=body).raise_for_status()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def written(self) -> int:
        """Points written so far, repeats included, from the server's counter, because a query costs far more."""
        found = _WRITTEN.search(self._http.get("/metrics").raise_for_status().text)
        return int(float(found[1])) if found else 0

    def await_written(self, points: int, seconds: float) -> None:
        """Wait until `points` have been written; AssertionError after `seconds`."""
        deadline = time.monotonic() + seconds
        while (written := self.written()) < points:
            if time.monotonic() > deadline:
                raise AssertionError(f"expected {points} points in InfluxDB within {seconds:.0f} s, got {written}")
            time.sleep(_LOOK_SECONDS)

    def write(self, bucket: str, lines: str) -> None:
        """Write lines, times in seconds."""
        parameters = {"org": self.organisation, "bucket": bucket, "precision": "s"}
        self._http.post("/api/v2/write", params=parameters, content=lines.encode()).raise_for_status()

    def query(self, flux: str) -> str:
        """The answer to a query, as CSV without a header; at most some minutes are waited for it."""
        body = {"query": flux, "dialect": {"annotations": [], "header": False}}
        parameters = {"org": self.organisation}
        answer = self._http.post("/api/v2/query", params=parameters, json=body, timeout=_QUERY_SECONDS)
        return answer.raise_for_status().text

    def await_rows(self, bucket: str, rows: int) -> None:
        """Wait for `rows` rows in a bucket, because points that repeat others were counted as written too;
        AssertionError if there are others after some seconds.
        """
        deadline = time.monotonic() + _ROWS_SECONDS
        while (found := self.rows(bucket)) != rows:
            if time.monotonic() > deadline:
                raise AssertionError(f"expected {rows} rows in {bucket}, got {found}")
            time.sleep(_LOOK_SECONDS)

    def rows(self, bucket: str) -> int:
        """Rows of a bucket."""
        flux = (
            f'from(bucket: "{bucket}") |> range(start: 0) |> filter(fn: (r) => r._field == "trades") '
            "|> group() |> count()"
        )
        return int(self.query(flux).strip().rpartition(",")[2] or 0)
