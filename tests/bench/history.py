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
_ROLLED_UP = 3_000_000
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
        self._folder, self._number = folder, number
        self._symbol, self._peer = f"OURS{number}/USD", f"PEER{number}/USD"
        self._archive, self._database = folder / "archive.csv", folder / "candles.db"
        self._minutes = write_archive(self._archive, number, _ROWS)

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
        return self._export(STARTS, STARTS + _YEAR, self._sqlite, "sqlite", self._database)

    def export_influx(self, influx: InfluxPoints) -> _Pair:
        # Three rounds export a year between them.
        start = STARTS + self._number * _YEAR // _ROUNDS
        place = influx.url, influx.organisation, influx.token
        return self._export(start, start + _YEAR // _ROUNDS, _settings(influx), "influx", *place)

    def _export(self, start: int, end: int, settings: Mapping[str, str], *place: object) -> _Pair:
        out, copy = self._folder / "1m.csv", self._folder / "copy.csv"
        ours = self._ours(
            "export", "--symbol", self._symbol, "--timeframe", "1m", "--from", start, "--to", end, "--out", out,
            **settings,
        )  # fmt: skip
        theirs = finished(module("bench.copy_out", copy, *place, self._symbol, start, end), Path.cwd())
        self._expect(_lines(out) - 1, (end - start) // 60)
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


def _roll_ups(folder: Path) -> list[_Pair]:
    """The same file in each round."""
    archive = folder / "archive.csv"
    minutes = write_archive(archive, 0, _ROLLED_UP)
    pairs = []
    for _ in range(_ROUNDS):
        ours = finished(module("crypto_ingress", "rollup", archive, "--symbol", "OURS/USD", "--out", "ours"), folder)
        theirs = finished(module("bench.polars_rollup", archive, folder / "theirs"), Path.cwd())
        weeks = [_lines(folder / of / "1w.csv") for of in ("ours", "theirs")]
        got = (_lines(folder / "ours" / "1m.csv") - 1, weeks[0])
        if got != (minutes, weeks[1]):
            raise AssertionError(f"expected {minutes} minutes and {weeks[1] - 1} weeks, got {got[0]} and {got[1] - 1}")
        pairs.append(_Pair(ours, theirs.cpu))
    return pairs


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
        rolled_up = _roll_ups(Path(folder))
        rounds = [_Round(Path(folder) / str(number), number) for number in range(_ROUNDS)]
        sqlite = [each.import_sqlite() for each in rounds]
        outcomes: dict[str, Outcome] = {
            _ROLL_UP: paired(
                [pair.theirs for pair in rolled_up],
                [pair.ours.cpu for pair in rolled_up],
                f"{_rate(min(pair.ours.cpu for pair in rolled_up))} beside"
                f" {_rate(min(pair.theirs for pair in rolled_up))}",
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
    note = f"{ours:.1f} s beside {theirs:.1f} s for all rounds"
    return {_export(store): paired([pair.ours.wall for pair in pairs], [pair.theirs for pair in pairs], note)}


def _rate(seconds: float) -> str:
    return f"{_ROLLED_UP / seconds:,.0f} rows/s"


def _import(store: str) -> str:
    return f"history, import into {store}"


def _memory(store: str) -> str:
    return f"history, memory of the import into {store}"


def _export(store: str) -> str:
    return f"history, export from {store}"


_ROLL_UP = "history, roll-up"
_OF_INFLUX = (_import("InfluxDB"), _memory("InfluxDB"), _export("InfluxDB"))
_FILE = f"a file of {_ROWS:,} rows ({SHARE:.0%} of its minutes; another file each round)"
_YEARS = {"SQLite": "a year", "InfluxDB": "a third"}
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
            f"Time of `crypto-ingress export` for a year of 1m candles to CSV ({_YEARS[store]} a round), divided by "
            f"that of {_CLIENTS[store]}, start of the process included.",
            at_most(2),
        ),
    )


GROUPS = (
    Group(
        (
            Definition(
                _ROLL_UP,
                f"CPU of polars for a file of {_ROLLED_UP:,} rows: reading, grouping into six timeframes in floats, "
                "writing seven CSV files without infilled candles and vwap; divided by that of `crypto-ingress "
                "rollup`, in exact decimals.",
                at_least(0.33),
            ),
            *_of_store("SQLite"),
            *_of_store("InfluxDB"),
        ),
        _measure,
    ),
)
