"""Which version of a candle is where: stored, or written by ourselves."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise

from ingress_common.model import Candle
from ingress_common.timeframes import Timeframe
from ingress_store.influx import flux, names
from ingress_store.influx.lines import NO_CHECK, is_of_one_write, microseconds
from ingress_store.influx.rows import candle_of, rows_of
from ingress_store.influx.server import Server

_REMEMBERED = 50_000
_NAMED_SYMBOLS = 50
_RANGES = 40  # in one question
# What a range costs, and each symbol in it, counted in rows (measured: 1.2 ms, 0.5 ms, and 38 us a row).
_RANGE_ROWS = 32
_SYMBOL_ROWS = 13


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


class Unsettled:
    """Closed candles written lately, each until it has been looked for in the store once for every age in `ages`.

    Bounded: beyond `limit` the oldest is dropped and counted. Ages and times in seconds, of a clock that never steps.
    """

    def __init__(self, ages: Sequence[float], limit: int) -> None:
        self._ages = tuple(ages)
        self._limit = limit
        self._stages: tuple[OrderedDict[Identity, tuple[float, Candle]], ...] = tuple(OrderedDict() for _ in ages)
        self.dropped = 0

    def put(self, candle: Candle, now: float) -> None:
        """`candle` has been written at `now`; an earlier version of it needs no more looking after."""
        self.forget(candle)
        if not self._stages:
            return
        self._stages[0][identity(candle)] = (now, candle)
        if sum(map(len, self._stages)) > self._limit:
            next(stage for stage in reversed(self._stages) if stage).popitem(last=False)
            self.dropped += 1

    def due(self, now: float, limit: int) -> list[Candle]:
        """Up to `limit` candles that have one of the ages."""
        return list(islice(self._due(now), limit))

    def found(self, candle: Candle) -> None:
        """`candle` is what is stored: look again at the next age."""
        for stage, following in pairwise((*self._stages, None)):
            entry = stage.pop(identity(candle), None) if stage is not None else None
            if entry is not None:
                if following is not None:
                    following[identity(candle)] = entry
                return

    def watched(self, key: Identity) -> Version | None:
        """The version that is to be there."""
        entry = next((stage[key] for stage in self._stages if key in stage), None)
        return None if entry is None else Version.of(entry[1])

    def forget(self, candle: Candle) -> None:
        """It needs no more looking after."""
        for stage in self._stages:
            stage.pop(identity(candle), None)

    def _due(self, now: float) -> Iterator[Candle]:
        for age, stage in zip(self._ages, self._stages, strict=True):
            for written, candle in stage.values():
                if written + age > now:
                    break
                yield candle


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a bucket to read: `symbols` (None: all) from open time `start` up to and with `last`."""

    symbols: tuple[str, ...] | None
    start: int
    last: int


async def stored_versions(server: Server, candles: Iterable[Candle]) -> dict[Identity, Version]:
    """What is stored of `candles`, by a few questions a timeframe that read little else.

    A row that two writes have made together is no version of anything, and is left out.
    """
    found: dict[Identity, Version] = {}
    by_timeframe: dict[Timeframe, list[Candle]] = {}
    for candle in candles:
        by_timeframe.setdefault(candle.timeframe, []).append(candle)
    for timeframe, asked in by_timeframe.items():
        pieces = _pieces(asked)
        for first in range(0, len(pieces), _RANGES):
            texts = (
                flux.rows(names.candles(timeframe), piece.symbols, piece.start, piece.last + 1)
                for piece in pieces[first : first + _RANGES]
            )
            for row in rows_of(await server.query(flux.together(texts))):
                stored = candle_of(row, timeframe)
                if stored is not None and is_of_one_write(stored, int(row.get("check") or NO_CHECK)):
                    found[identity(stored)] = Version.of(stored)
    return found


def _pieces(candles: list[Candle]) -> list[_Piece]:
    """What to read for `candles` of one timeframe: all symbols together or each by itself, whichever costs less."""
    together, cost_together = _cut(candles)
    by_symbol = [_cut(list(own)) for _, own in groupby(sorted(candles, key=_symbol), key=_symbol)]
    if cost_together <= sum(cost for _, cost in by_symbol):
        return together
    return [piece for pieces, _ in by_symbol for piece in pieces]


def _cut(candles: list[Candle]) -> tuple[list[_Piece], int]:
    """The time of `candles`, cut where there is so little between that a range more costs less; and the cost."""
    symbols = tuple(sorted({candle.symbol for candle in candles}))
    named = symbols if len(symbols) <= _NAMED_SYMBOLS else None
    window = candles[0].timeframe.seconds
    cost = _RANGE_ROWS + _SYMBOL_ROWS * len(symbols)
    times = sorted({candle.open_time for candle in candles})
    pieces: list[_Piece] = []
    start = times[0]
    for before, after in pairwise((*times, None)):
        if before is not None and (after is None or (after - before) // window * len(symbols) > cost):
            pieces.append(_Piece(named, start, before))
            start = before if after is None else after
    rows = sum(((piece.last - piece.start) // window + 1) * len(symbols) for piece in pieces)
    return pieces, rows + cost * len(pieces)


def _symbol(candle: Candle) -> str:
    return candle.symbol
