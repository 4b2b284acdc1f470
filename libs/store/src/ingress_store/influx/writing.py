"""Batches on their way into a bucket: what the server rejects is found, and the rest is written."""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingress_common.model import Candle
from ingress_common.timeframes import Timeframe
from ingress_store.influx import flux, names
from ingress_store.influx.lines import microseconds
from ingress_store.influx.rows import rows_of, seconds_of
from ingress_store.influx.server import RefusedError, Server
from ingress_store.port import Rejection

BATCH_LINES = 5_000
"""Lines in one request, at most."""

_REMEMBERED = 50_000
_NAMED_SYMBOLS = 50
_WASTE = 4
_TOO_LARGE = 413


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """What decides which of two candles of one identity is kept (`ingress_store.ordering`); `at` in microseconds."""

    closed: bool
    at: int
    revision: int

    @classmethod
    def of(cls, candle: Candle) -> "Version":
        """The version of `candle`."""
        return cls(candle.closed, microseconds(candle.at), candle.revision)


Identity = tuple[str, Timeframe, int]


def identity(candle: Candle) -> Identity:
    """Symbol, timeframe and open time."""
    return candle.symbol, candle.timeframe, candle.open_time


class Remembered:
    """The versions of the candles written last, as many as memory has room for."""

    def __init__(self) -> None:
        self._versions: OrderedDict[Identity, Version] = OrderedDict()

    def get(self, key: Identity) -> Version | None:
        """The version written last."""
        return self._versions.get(key)

    def put(self, candle: Candle) -> None:
        """`candle` has been written."""
        self._versions[identity(candle)] = Version.of(candle)
        self._versions.move_to_end(identity(candle))
        while len(self._versions) > _REMEMBERED:
            self._versions.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Line:
    """A rendered row, and its place in what was given."""

    index: int
    text: str


async def write_lines(server: Server, bucket: str, precision: str, lines: Sequence[Line]) -> list[Rejection]:
    """Write `lines`, oldest first, and name those that the server does not take, with its reason.

    A rejected batch is cut in two until the bad lines stand alone; writing a good one twice changes nothing. Where the
    server says that it dropped them all, as it does with what is older than the retention, no further cut is needed.
    """
    rejected: list[Rejection] = []
    parts = [list(lines[start : start + BATCH_LINES]) for start in range(0, len(lines), BATCH_LINES)][::-1]
    while parts:
        part = parts.pop()
        try:
            await server.write(bucket, precision, [line.text for line in part])
        except RefusedError as error:
            if len(part) == 1 or (error.status != _TOO_LARGE and error.dropped == len(part)):
                rejected += (Rejection(line.index, str(error)) for line in part)
            else:
                middle = len(part) // 2
                parts += (part[middle:], part[:middle])
    return rejected


async def stored_versions(server: Server, candles: Iterable[Candle]) -> dict[Identity, Version]:
    """What is stored of `candles`: one query a timeframe, more where that would read much that was not asked for."""
    found: dict[Identity, Version] = {}
    by_timeframe: dict[Timeframe, list[Candle]] = {}
    for candle in candles:
        by_timeframe.setdefault(candle.timeframe, []).append(candle)
    for timeframe, asked in by_timeframe.items():
        for part in _compact(asked):
            symbols = sorted({candle.symbol for candle in part})
            text = flux.versions(
                names.candles(timeframe),
                symbols if len(symbols) <= _NAMED_SYMBOLS else None,
                min(candle.open_time for candle in part),
                max(candle.open_time for candle in part) + 1,
            )
            for row in rows_of(await server.query(text)):
                open_time = seconds_of(row["_time"])
                at = row.get("at") or (open_time + timeframe.seconds) * 1_000_000
                version = Version(row.get("closed") == "true", int(at), int(row.get("revision") or 0))
                found[row["symbol"], timeframe, open_time] = version
    return found


def _compact(candles: list[Candle]) -> list[list[Candle]]:
    """`candles` of one timeframe, cut where all symbols' whole time from first to last is far more."""
    times = [candle.open_time for candle in candles]
    windows = (max(times) - min(times)) // candles[0].timeframe.seconds + 1
    symbols = {candle.symbol for candle in candles}
    if windows * len(symbols) <= _WASTE * len(candles) + 100:
        return [candles]
    if len(symbols) > 1:
        return [part for symbol in sorted(symbols) for part in _compact([c for c in candles if c.symbol == symbol])]
    ordered = sorted(candles, key=lambda candle: candle.open_time)
    gaps = [after.open_time - before.open_time for before, after in itertools.pairwise(ordered)]
    widest = gaps.index(max(gaps)) + 1
    return _compact(ordered[:widest]) + _compact(ordered[widest:])
