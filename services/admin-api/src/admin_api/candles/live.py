"""The candles of the bus in bounded memory: the newest of each series, and a ring of closed ones.

A series is a symbol and a timeframe. Pure: no clock and no I/O.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from admin_api.candles.subscription import Subscription
from admin_api.system.candle_header import CandleHeader
from ingress_common.model import Series
from ingress_common.payloads import decode_candle, encode_candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe

RING = 20_000
"""Maximum number of closed candles for readers that resume: about ten minutes of all of Kraken's pairs."""

MAX_SERIES = 70_000
"""Maximum number of series: all timeframes of about ten thousand symbols."""

_EVENT_ID = re.compile(r"([A-Za-z0-9]{1,20})-([0-9]{1,20})-([0-9]{1,20})")

StateVersion = tuple[float, int]
"""The order of a candle's states: at, revision."""


class LiveFullError(Exception):
    """The maximum number of series is reached: more names are published than can exist."""


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a reader of events, by its last event id.

    `epoch`: the run of this service (or of its broker connection) that numbered the event. `number`: the event's
    number, from 1; 0 for an event from the store. `time`: unix seconds up to which candles had been sent.
    """

    epoch: str
    number: int
    time: int

    def __str__(self) -> str:
        """The event id."""
        return f"{self.epoch}-{self.number}-{self.time}"

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """The position of an event id; None if this service did not create the id."""
        found = _EVENT_ID.fullmatch(text)
        return None if found is None else cls(found[1], int(found[2]), int(found[3]))


class Frame(Struct, frozen=True, gc=False):
    """A candle with its payload as on the bus, in one line.

    `at` and `revision` are the candle's; `came`: time of its receipt (unix seconds).
    """

    epoch: str
    number: int
    series: Series
    open_time: int
    closed: bool
    at: float
    revision: int
    came: float
    payload: bytes

    @property
    def version(self) -> StateVersion:
        """The order among the candle's states."""
        return self.at, self.revision

    @property
    def event(self) -> bytes:
        """The candle as a server-sent event."""
        return candle_event(Position(self.epoch, self.number, int(self.came)), self.payload)


def candle_event(position: Position, payload: bytes) -> bytes:
    """The event of a candle."""
    return b"id: %s\nevent: candle\ndata: %s\n\n" % (str(position).encode(), payload)


def reset_event(reason: str, position: Position) -> bytes:
    """The event that makes a reader read its candles again. `reason` is a sentence without quotes."""
    return f'id: {position}\nevent: reset\ndata: {{"reason":"{reason}"}}\n\n'.encode()


@dataclass(slots=True)
class _Known:
    """A series: its newest closed candle, its forming candle, and its part of the ring, oldest first."""

    key: Series
    newest: Frame | None = None
    forming: Frame | None = None
    # A list, because an empty deque takes 600 bytes and tens of thousands of series exist.
    closed: list[Frame] = field(default_factory=list)

    def is_news(self, candle: CandleHeader, payload: bytes) -> bool:
        """Whether a candle is new: neither known nor older than the known state."""
        version = candle.version
        if candle.closed:
            newest = () if self.newest is None else (self.newest,)
            same = [frame for frame in (*newest, *self.closed) if frame.open_time == candle.open_time]
            return not any(frame.payload == payload or frame.version > version for frame in same)
        if self.newest is not None and self.newest.open_time >= candle.open_time:
            return False
        forming = self.forming
        return forming is None or (forming.open_time, forming.version) <= (candle.open_time, version)

    def keep(self, frame: Frame) -> None:
        """Add a new frame."""
        if not frame.closed:
            self.forming = frame
            return
        if self.newest is None or self.newest.open_time <= frame.open_time:
            self.newest = frame
        if self.forming is not None and self.forming.open_time <= frame.open_time:
            self.forming = None
        self.closed.append(frame)


class LiveCandles:
    """Keeps the candles that `take` adds, and offers them to readers. `new_epoch` returns a new, unique name."""

    def __init__(self, new_epoch: Callable[[], str], ring: int = RING) -> None:
        self._new_epoch = new_epoch
        self.epoch = new_epoch()
        self.number = 0
        self._floor = 0
        self._limit = ring
        self._ring: deque[Frame] = deque()
        self._known: dict[Series, _Known] = {}
        self._readers: dict[str | None, set[Subscription]] = {}

    def take(self, candle: CandleHeader, payload: bytes, now: float) -> Frame | None:
        """Add a candle received at `now` (unix seconds); None if it is known or older than the known state.

        LiveFullError if the maximum number of series is reached.
        """
        known = self._series((candle.symbol, candle.timeframe))
        if not known.is_news(candle, payload):
            return None
        self.number += 1
        # An empty line ends an event, so a foreign payload of several lines is encoded again.
        line = payload if b"\n" not in payload and b"\r" not in payload else encode_candle(decode_candle(payload))
        frame = Frame(
            epoch=self.epoch,
            number=self.number,
            series=known.key,
            open_time=candle.open_time,
            closed=candle.closed,
            at=candle.at,
            revision=candle.revision,
            came=now,
            payload=line,
        )
        known.keep(frame)
        if frame.closed:
            self._ring.append(frame)
            self._trim_ring()
        self._offer(frame)
        return frame

    def forget(self, series: Series) -> None:
        """Drop a series: the bus has no candle of it any more."""
        known = self._known.get(series)
        if known is not None:
            known.newest = known.forming = None
            self._drop_if_empty(known)

    def interrupted(self, reason: str, now: float) -> None:
        """Reset every reader: candles may have been missed, so a resume from the ring would not be exact."""
        self.epoch = self._new_epoch()
        self._ring.clear()
        for known in self._known.values():
            known.closed.clear()
        self._floor = self.number
        event = reset_event(reason, self.position(now))
        for readers in self._readers.values():
            for reader in readers:
                reader.reset(event)

    def add(self, reader: Subscription) -> None:
        """Offer candles to `reader` from now on."""
        for key in reader.symbols if reader.symbols is not None else (None,):
            self._readers.setdefault(key, set()).add(reader)

    def remove(self, reader: Subscription) -> None:
        """Stop offering candles to `reader`."""
        for key in reader.symbols if reader.symbols is not None else (None,):
            readers = self._readers.get(key, set())
            readers.discard(reader)
            if not readers:
                self._readers.pop(key, None)

    def position(self, now: float) -> Position:
        """The position of a reader that is up to date at `now` (unix seconds)."""
        return Position(self.epoch, self.number, int(now))

    def known(self, symbols: frozenset[str] | None, timeframes: frozenset[Timeframe]) -> list[Series]:
        """The series of `symbols` and `timeframes`; for `symbols` None, all series of the bus."""
        if symbols is not None:
            return [(s, t) for s in sorted(symbols) for t in TIMEFRAMES if t in timeframes]
        return [key for key, known in self._known.items() if key[1] in timeframes and (known.newest or known.forming)]

    def newest(self, series: Series) -> Frame | None:
        """The newest closed candle, or None."""
        known = self._known.get(series)
        return known.newest if known else None

    def forming(self, series: Series) -> Frame | None:
        """The forming candle, or None once its window is closed."""
        known = self._known.get(series)
        return known.forming if known else None

    def closed(self, series: Series) -> Sequence[Frame]:
        """The closed candles of a series in the ring, in the order of receipt."""
        known = self._known.get(series)
        return known.closed if known else ()

    def missed(self, series: Iterable[Series], position: Position) -> list[Frame] | None:
        """The candles received after `position`, in order; None if the ring does not reach back to it."""
        if position.epoch != self.epoch or not max(self._floor, 1) <= position.number <= self.number:
            return None
        frames = (frame for one in series for frame in (*self.closed(one), self.forming(one)))
        missed = [frame for frame in frames if frame is not None and frame.number > position.number]
        return sorted(missed, key=lambda frame: frame.number)

    def state(self, series: Iterable[Series]) -> list[Frame]:
        """The newest closed and the forming candle of each, in the order of receipt."""
        frames = [f for one in series for f in (self.newest(one), self.forming(one)) if f is not None]
        return sorted(frames, key=lambda frame: frame.number)

    def _series(self, key: Series) -> _Known:
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MAX_SERIES:
                raise LiveFullError(f"expected at most {MAX_SERIES} series, got another one: {key[0]} {key[1].value}")
            known = self._known[key] = _Known(key)
        return known

    def _offer(self, frame: Frame) -> None:
        symbol, timeframe = frame.series
        readers = [
            reader for key in (symbol, None) for reader in self._readers.get(key, ()) if timeframe in reader.timeframes
        ]
        if readers:
            # Rendered once for all readers.
            event = frame.event
            for reader in readers:
                if frame.closed:
                    reader.offer_closed(frame.number, event)
                else:
                    reader.offer_forming(frame.number, frame.series, event)

    def _trim_ring(self) -> None:
        if len(self._ring) > self._limit:
            oldest = self._ring.popleft()
            self._floor = oldest.number
            # The same order in both, so it is the first one there too.
            known = self._known[oldest.series]
            known.closed.pop(0)
            self._drop_if_empty(known)

    def _drop_if_empty(self, known: _Known) -> None:
        if not (known.newest or known.forming or known.closed):
            del self._known[known.key]
