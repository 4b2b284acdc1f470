"""The candles of the bus as they come, in memory and bounded: the newest state of each series, and a ring of closed
ones.

A series is a symbol and a timeframe. Pure: it has no clock and no I/O of its own.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from ingress_common.model import Candle
from ingress_common.payloads import encode_candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe

RING = 20_000
"""Closed candles that are kept to be sent again: about ten minutes of all of Kraken's pairs."""

MAX_SERIES = 70_000
"""Series that are kept: seven of each symbol that the view may hold."""

Series = tuple[str, Timeframe]
"""Symbol and timeframe."""


class LiveFullError(Exception):
    """Another series does not fit; somebody publishes more names than there can be."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a reader of events is, as its event ids tell.

    `epoch`: the run of this service (or of its broker connection) that numbered the event. `number`: its place, from 1;
    0 for one that came from the store. `time`: unix seconds up to which candles had been sent.
    """

    epoch: str
    number: int
    time: int

    def __str__(self) -> str:
        """The event id."""
        return f"{self.epoch}-{self.number}-{self.time}"

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """The position of an event id; None if it is none of ours."""
        parts = text.split("-")
        if len(parts) != 3 or not all(len(part) <= 20 and part.isascii() for part in parts):
            return None
        epoch, number, time = parts
        if not (epoch.isalnum() and number.isdigit() and time.isdigit()):
            return None
        return cls(epoch, int(number), int(time))


@dataclass(frozen=True, slots=True)
class Frame:
    """A candle, encoded once for all who read it: `payload` as on the bus, in one line; `event` as server-sent event.

    `version` (at, revision) orders the states of one candle; `came`: when it came (unix seconds).
    """

    number: int
    series: Series
    open_time: int
    closed: bool
    version: tuple[float, int]
    came: float
    payload: bytes
    event: bytes


class Reader(Protocol):
    """Who gets the candles of some series."""

    @property
    def symbols(self) -> frozenset[str] | None:
        """Which symbols; None for all."""
        ...

    @property
    def timeframes(self) -> frozenset[Timeframe]:
        """Which timeframes."""
        ...

    def offer(self, frame: Frame) -> None:
        """Take a candle; must not wait."""
        ...

    def reset(self, event: bytes) -> None:
        """Something may have been missed."""
        ...


class LiveCandles:
    """Takes candles in with `take`, keeps them, offers them to readers. `new_epoch` gives a name never used before."""

    def __init__(self, new_epoch: Callable[[], str], ring: int = RING) -> None:
        self._new_epoch = new_epoch
        self.epoch = new_epoch()
        self.number = 0
        self._floor = 0
        self._limit = ring
        self._ring: deque[Frame] = deque()
        self._closed_of: dict[Series, deque[Frame]] = {}
        self._newest: dict[Series, Frame] = {}
        self._forming: dict[Series, Frame] = {}
        self._readers: dict[str | None, set[Reader]] = {}

    def take(self, candle: Candle, payload: bytes, now: float) -> Frame | None:
        """Take a candle in that came at `now` (unix seconds); None if it says nothing new.

        LiveFullError if there is no room for another series.
        """
        series = (candle.symbol, candle.timeframe)
        if series not in self._newest and series not in self._forming and len(self._newest) >= MAX_SERIES:
            raise LiveFullError(f"expected at most {MAX_SERIES} series, got another one: {series[0]} {series[1].value}")
        if not self._is_news(series, candle, payload):
            return None
        self.number += 1
        # An event ends at an empty line, so what somebody else published in several lines is written anew.
        line = payload if b"\n" not in payload and b"\r" not in payload else encode_candle(candle)
        event = b"id: %s\nevent: candle\ndata: %s\n\n" % (str(self._position(now)).encode(), line)
        version = (candle.at, candle.revision)
        frame = Frame(self.number, series, candle.open_time, candle.closed, version, now, line, event)
        self._keep(frame)
        for key in (candle.symbol, None):
            for reader in self._readers.get(key, ()):
                if candle.timeframe in reader.timeframes:
                    reader.offer(frame)
        return frame

    def forget(self, series: Series) -> None:
        """The bus no longer has a candle of this series."""
        self._newest.pop(series, None)
        self._forming.pop(series, None)

    def interrupted(self, reason: str, now: float) -> None:
        """Candles may have been missed: what is kept is no longer without a hole, and every reader is told."""
        self.epoch = self._new_epoch()
        self._ring.clear()
        self._closed_of.clear()
        self._floor = self.number
        event = reset_event(reason, self._position(now))
        for readers in self._readers.values():
            for reader in readers:
                reader.reset(event)

    def add(self, reader: Reader) -> None:
        """Offer candles to `reader` from now on."""
        for key in reader.symbols if reader.symbols is not None else (None,):
            self._readers.setdefault(key, set()).add(reader)

    def remove(self, reader: Reader) -> None:
        """Offer it nothing more."""
        for key in reader.symbols if reader.symbols is not None else (None,):
            readers = self._readers.get(key, set())
            readers.discard(reader)
            if not readers:
                self._readers.pop(key, None)

    def knows(self, symbol: str) -> bool:
        """Whether the bus has a candle of `symbol`."""
        series = [(symbol, timeframe) for timeframe in TIMEFRAMES]
        return any(one in self._newest or one in self._forming for one in series)

    def known(self, reader: Reader) -> list[Series]:
        """The series that `reader` is about: all that it names, or of all symbols those that the bus has."""
        if reader.symbols is not None:
            return [(s, t) for s in sorted(reader.symbols) for t in TIMEFRAMES if t in reader.timeframes]
        found = self._newest.keys() | self._forming.keys()
        return [series for series in found if series[1] in reader.timeframes]

    def newest(self, series: Series) -> Frame | None:
        """The newest closed candle; None if none has come."""
        return self._newest.get(series)

    def forming(self, series: Series) -> Frame | None:
        """The forming candle, while its window has not been closed."""
        return self._forming.get(series)

    def closed(self, series: Series) -> Iterable[Frame]:
        """The closed candles of a series that are kept, in the order in which they came."""
        return self._closed_of.get(series, ())

    def missed(self, series: Iterable[Series], position: Position) -> list[Frame] | None:
        """What came after `position`, in order; None if that cannot be told from memory alone."""
        if position.epoch != self.epoch or not max(self._floor, 1) <= position.number <= self.number:
            return None
        frames = [
            f for one in series for f in (*self.closed(one), *self._forming_of(one)) if f.number > position.number
        ]
        return sorted(frames, key=lambda frame: frame.number)

    def state(self, series: Iterable[Series]) -> list[Frame]:
        """The newest closed and the forming candle of each, in the order in which they came."""
        frames = [f for one in series for f in (self._newest.get(one), self._forming.get(one)) if f is not None]
        return sorted(frames, key=lambda frame: frame.number)

    def _position(self, now: float) -> Position:
        return Position(self.epoch, self.number, int(now))

    def _forming_of(self, series: Series) -> tuple[Frame, ...]:
        forming = self._forming.get(series)
        return (forming,) if forming else ()

    def _is_news(self, series: Series, candle: Candle, payload: bytes) -> bool:
        newest = self._newest.get(series)
        if candle.closed:
            same = [f for f in (newest, *self.closed(series)) if f is not None and f.open_time == candle.open_time]
            return not any(f.payload == payload or f.version > (candle.at, candle.revision) for f in same)
        if newest is not None and newest.open_time >= candle.open_time:
            return False
        forming = self._forming.get(series)
        return forming is None or (forming.open_time, forming.version) <= (
            candle.open_time,
            (candle.at, candle.revision),
        )

    def _keep(self, frame: Frame) -> None:
        if not frame.closed:
            self._forming[frame.series] = frame
            return
        newest = self._newest.get(frame.series)
        if newest is None or newest.open_time <= frame.open_time:
            self._newest[frame.series] = frame
        forming = self._forming.get(frame.series)
        if forming is not None and forming.open_time <= frame.open_time:
            del self._forming[frame.series]
        self._ring.append(frame)
        self._closed_of.setdefault(frame.series, deque()).append(frame)
        if len(self._ring) > self._limit:
            oldest = self._ring.popleft()
            self._floor = oldest.number
            # The same order in both, so it is the first one there too.
            of_series = self._closed_of[oldest.series]
            of_series.popleft()
            if not of_series:
                del self._closed_of[oldest.series]


def reset_event(reason: str, position: Position) -> bytes:
    """The event that tells a reader to read anew what it keeps. `reason` is a plain sentence without quotes."""
    return f'id: {position}\nevent: reset\ndata: {{"reason":"{reason}"}}\n\n'.encode()
