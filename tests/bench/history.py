"""Years of candles: import, roll-up and export beside polars and the stores' own clients."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import ready_made
from bench.archive import SHARE, STARTS, write_archive
from bench.figure import Definition, Group, Measurement, Outcome, UnavailableError, at_least, at_most, paired
from bench.finished import Cost, finished
from bench.influx_points import InfluxPoints
from bench.processes import influxdb, module

_ROUNDS = 3
_ROWS = 500_000
_YEAR = 525_600 * 60
_MEBIBYTES = 500
_FOREVER = "1m=forever,5m=forever,15m=forever,1h=forever"


@dataclass(frozen=True)
class _Pair:
    """What ours and theirs took in one round."""

    ours: Cost
    theirs: float


class _Round:
    """An archive file, its store in SQLite, and what is done with them."""

    def __init__(self, folder: Path, number: int) -> None:
        folder.mkdir()
        self._folder = folder
        self._symbol, self._peer = f"OURS{number}/USD", f"PEER{number}/USD"
        self._archive, self._database = folder / "archive.csv", folder / "candles.db"
        self._minutes = write_archive(self._archive, number, _ROWS)
        # Three rounds export a year between them.
        self._start = STARTS + number * _YEAR // _ROUNDS
        self._end = self._start + _YEAR // _ROUNDS

    def roll_up(self) -> _Pair:
        ours = self._ours("rollup", self._archive, "--symbol", self._symbol, "--out", self._folder / "ours")
        theirs = finished(module("bench.polars_rollup", self._archive, self._folder / "theirs"), Path.cwd())
        self._expect(_lines(self._folder / "ours" / "1m.csv") - 1, self._minutes)
        # The weeks are all there on both sides.
        self._expect(_lines(self._folder / "ours" / "1w.csv"), _lines(self._folder / "theirs" / "1w.csv"))
        return _Pair(ours, theirs.cpu)

    def import_sqlite(self) -> _Pair:
        ours = self._ours("import", self._archive, "--symbol", self._symbol, **self._sqlite)
        rows = ready_made.ready_rows(self._database)
        self._expect(sum(row[2] == "1m" for row in rows), self._minutes)
        peer = self._folder / "peer.db"
        theirs = ready_made.read(self._archive) + ready_made.write_sqlite(peer, rows)
        peer.unlink()
        return _Pair(ours, theirs)

    def import_influx(self, influx: InfluxPoints) -> _Pair:
        rows = ready_made.ready_rows(self._database)
        before = influx.rows("candles_1m")
        ours = self._ours("import", self._archive, "--symbol", self._symbol, **_settings(influx))
        self._expect(influx.rows("candles_1m") - before, self._minutes)
        theirs = ready_made.read(self._archive) + ready_made.write_influx(influx, rows, self._peer)
        self._expect(influx.rows("candles_1m") - before, 2 * self._minutes)
        return _Pair(ours, theirs)

    def export_sqlite(self) -> _Pair:
        return self._export(self._sqlite, "sqlite", self._database)

    def export_influx(self, influx: InfluxPoints) -> _Pair:
        return self._export(_settings(influx), "influx", influx.url, influx.organisation, influx.token)

    def _export(self, settings: Mapping[str, str], *place: object) -> _Pair:
        span = (self._start, self._end)
        out, copy = self._folder / "1m.csv", self._folder / "copy.csv"
        ours = self._ours(
            "export", "--symbol", self._symbol, "--timeframe", "1m", "--from", span[0], "--to", span[1], "--out", out,
            **settings,
        )  # fmt: skip
        theirs = finished(module("bench.copy_out", copy, *place, self._symbol, *span), Path.cwd())
        self._expect(_lines(out) - 1, (span[1] - span[0]) // 60)
        # The client's CSV may have header lines.
        if not 0 <= _lines(copy) - (_lines(out) - 1) <= 4:
            raise AssertionError(f"expected as many rows in {copy} as in {out}, got {_lines(copy)}")
        return _Pair(ours, theirs.wall)

    @property
    def _sqlite(self) -> Mapping[str, str]:
        return {"STORE_URL": f"sqlite:///{self._database}"}

    def _ours(self, *arguments: object, **settings: str) -> Cost:
        return finished(module("crypto_ingress", *arguments), self._folder, **settings)

    def _expect(self, got: int, expected: int) -> None:
        if got != expected:
            raise AssertionError(f"expected {expected} candles of {self._symbol}, got {got}")


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _settings(influx: InfluxPoints) -> Mapping[str, str]:
    return {
        "STORE_URL": influx.url.replace("http", "influxdb", 1),
        "INFLUX_ORG": influx.organisation,
        "INFLUX_TOKEN": influx.token,
        "RETENTION": _FOREVER,
    }


def _measure() -> Mapping[str, Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        rounds = [_Round(Path(folder) / str(number), number) for number in range(_ROUNDS)]
        rolled_up = [each.roll_up() for each in rounds]
        sqlite = [each.import_sqlite() for each in rounds]
        outcomes: dict[str, Outcome] = {
            _ROLL_UP: paired(
                [pair.theirs for pair in rolled_up],
                [pair.ours.cpu for pair in rolled_up],
                f"{_rate(min(pair.ours.cpu for pair in rolled_up))} beside"
                f" {_rate(min(pair.theirs for pair in rolled_up))}, and {_WEEK_NOTE}",
            ),
            **_import_outcomes("SQLite", sqlite),
            **_export_outcome("SQLite", [each.export_sqlite() for each in rounds]),
        }
        try:
            with influxdb() as server, InfluxPoints(server) as influx:
                outcomes |= _import_outcomes("InfluxDB", [each.import_influx(influx) for each in rounds])
                outcomes |= _export_outcome("InfluxDB", [each.export_influx(influx) for each in rounds])
        except UnavailableError as reason:
            outcomes |= dict.fromkeys(_OF_INFLUX, reason)
    return outcomes


def _import_outcomes(store: str, pairs: list[_Pair]) -> dict[str, Outcome]:
    ours, theirs = min(pair.ours.wall for pair in pairs), min(pair.theirs for pair in pairs)
    memory = [pair.ours.memory for pair in pairs]
    return {
        _import(store): paired(
            [pair.theirs for pair in pairs],
            [pair.ours.wall for pair in pairs],
            f"{ours:.1f} s beside {theirs:.1f} s",
        ),
        _memory(store): Measurement(tuple(each / _MEBIBYTES for each in memory), f"{max(memory):.0f} MiB"),
    }


def _export_outcome(store: str, pairs: list[_Pair]) -> dict[str, Outcome]:
    ours, theirs = sum(pair.ours.wall for pair in pairs), sum(pair.theirs for pair in pairs)
    note = f"{ours:.1f} s beside {theirs:.1f} s for the year"
    return {_export(store): paired([pair.ours.wall for pair in pairs], [pair.theirs for pair in pairs], note)}


def _rate(seconds: float) -> str:
    return f"{_ROWS / seconds:,.0f} rows/s"


def _import(store: str) -> str:
    return f"history, import into {store}"


def _memory(store: str) -> str:
    return f"history, memory of the import into {store}"


def _export(store: str) -> str:
    return f"history, export from {store}"


_ROLL_UP = "history, roll-up"
_WEEK_NOTE = "ours infills and has vwap"
_OF_INFLUX = (_import("InfluxDB"), _memory("InfluxDB"), _export("InfluxDB"))
_FILE = f"a file of {_ROWS:,} rows ({SHARE:.0%} of its minutes; another file each round)"
_CLIENTS = {"SQLite": "Python's sqlite3 and csv", "InfluxDB": "influxdb-client's `query_csv` and csv"}


def _of_store(store: str) -> tuple[Definition, ...]:
    return (
        Definition(
            _import(store),
            f"Time to read {_FILE} with polars and write the rows of all seven timeframes to {store} in batches that "
            "are ready already, divided by the time of `crypto-ingress import`, start of the process included.",
            at_least(0.25),
        ),
        Definition(
            _memory(store),
            f"The most resident memory of that import, divided by {_MEBIBYTES} MiB.",
            at_most(1),
        ),
        Definition(
            _export(store),
            f"Time of `crypto-ingress export` for 1m candles to CSV, a third of a year each round, divided by that of "
            f"{_CLIENTS[store]}, start of the process included.",
            at_most(2),
        ),
    )


GROUPS = (
    Group(
        (
            Definition(
                _ROLL_UP,
                f"CPU of polars for {_FILE}: reading, grouping into six timeframes in floats, writing seven CSV files "
                "without infilled candles and vwap; divided by that of `crypto-ingress rollup`, in exact decimals.",
                at_least(0.33),
            ),
            *_of_store("SQLite"),
            *_of_store("InfluxDB"),
        ),
        _measure,
    ),
)
