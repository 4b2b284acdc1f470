"""The symbols of one writer: take them over, compare with the store, request what is missing, hand them over."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from influx_writer.losses import SequenceGaps
from influx_writer.queue_marks import QueueMarks
from influx_writer.republishing import Republishing
from influx_writer.shares import Shares
from ingress_common.bus import Bus, BusClosedError, BusError, Message
from ingress_common.logs import get_logger
from ingress_common.model import Candle
from ingress_common.sequence import numbered, request_of
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.topics import Topics
from ingress_store import CandleStore, Freshness

_LOOK_SECONDS = 0.2
_REFUSED_SECONDS = 5.0
"""Pause between requests for candles that the store refuses while it accepts newer ones of their timeframe."""
_EXPIRE_SECONDS = 2.0
_MARGIN = 120.0  # a killed broker restarts from the state that it saved some seconds before
_AHEAD = 60.0  # clocks of two machines differ
_RECALLED = 10_000
_RECALLED_WINDOWS = 24

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the store held of a symbol before this writer wrote it.

    `minute`: the open time of the newest closed minute; None without one. `until`: nothing is missing up to this `at`.
    """

    minute: int | None
    until: float


@dataclass(slots=True)
class _Taken:
    """A symbol to which this writer is subscribed, or of which it still holds messages.

    `since`: messages from before (unix seconds) may not have arrived here. `mark`: once it has returned, the older
    queue has been read. `stored`: the comparison with the store. `first`: the open time of the first closed minute
    received. `from_start`: the first closed candle received was its publisher's first one. `verified`: what may be
    missing was requested from the aggregator. `released`: unsubscribed.
    """

    since: float
    subscribed: bool = False
    mark: int | None = None
    stored: _Stored | None = None
    first: int | None = None
    from_start: bool = False
    verified: bool = False
    released: bool = False

    @property
    def is_new(self) -> bool:
        """Whether the store holds nothing of it."""
        return self.stored is not None and self.stored.minute is None


class Assignment:
    """Follows `shares`: subscribes `bus`, whose session the broker keeps, to this writer's symbols.

    - **Taking over**: subscribe, list the symbol in the status (`announce`), compare once with the store. When the
      queue has been read and no other writer lists the symbol, request from the aggregator what may be missing.
    - **Handing over**: unsubscribe once the new owner lists the symbol; list it until everything received is stored.
      So the new owner requests after this writer's last write, and receives the newest candles.
    - **Reconnecting**: as if every symbol were taken over anew. A session that the broker kept proves little
      (decision 8).

    `clock` gives unix seconds; `reassign_seconds` pass between a change of the members and the reassignment.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        shares: Shares,
        marks: QueueMarks,
        republishing: Republishing,
        clock: Callable[[], float],
        announce: Callable[[], None],
        reassign_seconds: float,
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._shares = shares
        self._marks = marks
        self._republishing = republishing
        self._clock = clock
        self._announce = announce
        self._reassign_seconds = reassign_seconds
        self._gaps = SequenceGaps()
        self._taken: dict[str, _Taken] = {}
        self._uncompared: set[str] = set()
        self._foreign: frozenset[str] = frozenset()
        self._reassign_at: float | None = None
        self._requests_mark: int | None = None
        self._missing_since: float | None = None
        self._unstored: dict[Timeframe, dict[str, tuple[float, float]]] = {}
        self._refused_at: dict[Timeframe, float] = {}
        self._emptied = asyncio.Event()

    @property
    def symbols(self) -> list[str]:
        """The symbols to list in the status, sorted."""
        return sorted(self._taken)

    @property
    def received_symbols(self) -> frozenset[str]:
        """The symbols that this writer `receives`."""
        return frozenset(symbol for symbol in self._taken if self.receives(symbol))

    def receives(self, symbol: str) -> bool:
        """Whether this writer is subscribed to `symbol` and no other one still has it."""
        taken = self._taken.get(symbol)
        return taken is not None and taken.subscribed and not taken.released and not self._shares.is_elsewhere(symbol)

    @property
    def to_compare(self) -> bool:
        """Whether `compare` is to be called before the next write."""
        return bool(self._uncompared)

    @property
    def missing(self) -> int:
        """How many closed candles were published and have not arrived."""
        return self._gaps.missing

    @property
    def missing_since(self) -> float | None:
        """Since when (unix seconds) candles have been missing; None if none are."""
        return self._missing_since

    @property
    def has_unstored(self) -> bool:
        """Whether closed candles that the store refused are to be requested once it accepts them."""
        return bool(self._unstored)

    # --- what happens ------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Owners may have changed: schedule a reassignment, which waits for members that come or leave together."""
        if self._reassign_at is None:
            self._reassign_at = asyncio.get_running_loop().time() + self._reassign_seconds

    def reconnected(self) -> None:
        """Take over every symbol anew: after a reconnect messages may have been lost."""
        self._marks.reconnected()
        now = self._clock()
        for symbol, taken in self._taken.items():
            if not taken.released:
                newest = self._gaps.newest(symbol)
                self._taken[symbol] = _Taken(now if newest is None else min(now, newest), taken.subscribed)
                self._uncompared.add(symbol)

    def received(self, symbol: str) -> None:
        """Note a message of `symbol`, which the session may hold from an earlier process."""
        if symbol not in self._taken:
            self._shares.know((symbol,))
            self._take((symbol,))
            self.changed()

    def closed(self, candle: Candle, message: Message) -> str | None:
        """Process a received closed candle. Returns the name of the request that is done once it is stored, if any."""
        number = None if message.retain else numbered(message.properties)
        taken = self._taken.get(candle.symbol)
        if number is None or taken is None:
            return None
        if taken.first is None and candle.timeframe is Timeframe.M1:
            taken.first = candle.open_time
        if number.number == 1 and self._gaps.newest(candle.symbol) is None:
            taken.from_start = True
            if taken.is_new:
                self._republishing.forget(candle.symbol)
        since = self._gaps.take(candle.symbol, number, candle.at)
        if since is not None:
            log.warning("candles.missing", symbol=candle.symbol, missing=self._gaps.missing)
            if self._missing_since is None:
                self._missing_since = self._clock()
            # The candles on either side of the gap may be old ones that somebody had republished, so they limit it on
            # one side only: the missing ones may be new. Candles that one watermark closed have one `at`.
            self._republishing.want(candle.symbol, min(since, candle.at) - 1, self._clock() + _AHEAD)
        return request_of(message.properties)

    def republished(self, symbol: str, name: str) -> None:
        """Note that the last candle of the response to request `name` is stored."""
        if self._republishing.done(symbol, name):
            self._gaps.filled(symbol)

    def written(self, stored: Iterable[Candle], unstored: Collection[Candle]) -> None:
        """The store accepted the candles `stored`, and not `unstored`, because of their timeframe. Once it accepts
        others of that timeframe, request these. It may accept newer ones only, so wait after each refusal.
        """
        now = asyncio.get_running_loop().time()
        for candle in unstored:
            ranges = self._unstored.setdefault(candle.timeframe, {})
            if candle.closed:
                start, end = ranges.get(candle.symbol, (candle.at, candle.at))
                ranges[candle.symbol] = min(start, candle.at), max(end, candle.at)
        if self._unstored:
            self._refused_at.update((candle.timeframe, now) for candle in unstored)
            for timeframe in {candle.timeframe for candle in stored} & self._unstored.keys():
                if now - self._refused_at[timeframe] < _REFUSED_SECONDS:
                    continue
                for symbol, (start, end) in self._unstored.pop(timeframe).items():
                    if symbol in self._taken:
                        self._republishing.want(symbol, start - 1, end + 1)

    async def compare(self, store: CandleStore) -> None:
        """Read what the store holds of the symbols that were taken over. StoreUnavailableError if it does not respond.

        Call this before writing any of their candles: a newer candle in the store would hide a gap before it.
        """
        symbols = frozenset(self._uncompared)
        newest: dict[str, dict[Timeframe, Freshness]] = {symbol: {} for symbol in symbols}
        for freshness in await store.latest():
            if freshness.symbol in symbols:
                newest[freshness.symbol][freshness.timeframe] = freshness
        now = self._clock()
        windows = max(2, min(_RECALLED_WINDOWS, _RECALLED // (len(symbols) * len(TIMEFRAMES))))
        for timeframe in TIMEFRAMES:
            known = [symbol for symbol, stored in newest.items() if timeframe in stored]
            if known:
                start = now - windows * timeframe.seconds
                await store.recall(known, timeframe, start=start, end=now + timeframe.seconds)
        for symbol in symbols & self._taken.keys():
            self._taken[symbol].stored = _stored(newest[symbol])
        self._uncompared -= symbols

    async def refresh(self, symbols: Collection[str]) -> None:
        """Make the broker send the minutes that it retains of `symbols`, if this writer may read them."""
        if symbols and self._bus.connected:
            # A filter that is new to the session: for another one the broker sends nothing.
            minutes = [self._topics.candles(symbol, Timeframe.M1) for symbol in symbols]
            with suppress(BusError, BusClosedError):
                await self._bus.subscribe(*minutes)
                await self._bus.unsubscribe(*minutes)

    # --- what is due -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take over, hand over and request what is due, until cancelled. Messages must be received meanwhile."""
        loop = asyncio.get_running_loop()
        await self._bus.subscribe(self._marks.topic)
        expired_at = loop.time()
        self.changed()
        while True:
            if self._bus.connected and loop.time() >= expired_at + _EXPIRE_SECONDS:
                expired_at = loop.time()
                if self._shares.expire():
                    self.changed()
                await self._marks.repeat()
            if self._reassign_at is not None and loop.time() >= self._reassign_at:
                self._reassign_at = None
                await self._take_over()
            await self._release()
            self._forget_released()
            await self._request()
            if not self._gaps.missing:
                self._missing_since = None
            await asyncio.sleep(_LOOK_SECONDS)

    async def hand_everything_over(self) -> None:
        """Return once other writers own all symbols and everything received is stored. The caller sets a timeout."""
        self._reassign_at = 0.0
        self._emptied.clear()
        if self._taken:
            await self._emptied.wait()

    async def _take_over(self) -> None:
        mine = self._shares.mine
        self._take(symbol for symbol in mine if symbol not in self._taken or self._taken[symbol].released)
        self._foreign = frozenset(self._taken.keys() - mine)
        new = [symbol for symbol, taken in self._taken.items() if not (taken.subscribed or taken.released)]
        if new:
            await self._bus.subscribe(*self._filters(new))
            for symbol in new:
                self._taken[symbol].subscribed = True
            log.info("symbols.taken", symbols=len(new), mine=len(mine), members=self._shares.members)
            self._announce()

    async def _release(self) -> None:
        """Unsubscribe from symbols that their new owner has taken over."""
        given = [
            symbol
            for symbol in self._foreign
            if symbol in self._taken and self._taken[symbol].subscribed and self._shares.has_taken(symbol)
        ]
        if given:
            await self._bus.unsubscribe(*self._filters(given))
            mark = await self._marks.send()
            for symbol in given:
                self._taken[symbol] = _Taken(self._clock(), mark=mark, released=True)
                self._republishing.forget(symbol)
            self._uncompared.difference_update(given)

    def _forget_released(self) -> None:
        done = [s for s, taken in self._taken.items() if taken.released and self._marks.reached(taken.mark)]
        for symbol in done:
            del self._taken[symbol]
            self._gaps.forget(symbol)
        if not self._taken:
            self._emptied.set()
        if done:
            log.info("symbols.released", symbols=len(done), members=self._shares.members)
            self._announce()

    async def _request(self) -> None:
        """Request what may be missing, once the queue has been read: it may be in there."""
        if not self._bus.connected:
            return
        unverified = [s for s, taken in self._taken.items() if taken.subscribed and not taken.verified]
        unmarked = [symbol for symbol in unverified if self._taken[symbol].mark is None]
        if unmarked:
            mark = await self._marks.send()
            for symbol in unmarked:
                self._taken[symbol].mark = mark
        new: list[str] = []
        for symbol in unverified:
            taken = self._taken[symbol]
            if taken.stored is None or self._shares.is_elsewhere(symbol):
                continue
            # If the store holds nothing of a symbol, request what was published before at once: as soon as one candle
            # is stored, it no longer shows that the beginning is missing. Nothing was published before a publisher's
            # first candle: each publishes all that it knows.
            if taken.is_new and taken.from_start:
                taken.verified = True
            elif taken.is_new or self._marks.reached(taken.mark):
                taken.verified = True
                self._republishing.want(symbol, _missing_from(taken, taken.stored), self._clock() + _AHEAD)
                new += [symbol] if taken.is_new else []
        if new:
            await self._republishing.send(new)
        due = self._republishing.due
        if due and self._requests_mark is None:
            self._requests_mark = await self._marks.send()
        elif due and self._marks.reached(self._requests_mark):
            self._requests_mark = None
            await self._republishing.send(due)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _take(self, symbols: Iterable[str]) -> None:
        for symbol in list(symbols):
            self._taken[symbol] = _Taken(self._clock())
            self._uncompared.add(symbol)

    def _filters(self, symbols: Collection[str]) -> list[str]:
        return [f for symbol in symbols for f in (self._topics.candles(symbol, "+"), self._topics.raw(symbol))]


def _stored(newest: Mapping[Timeframe, Freshness]) -> _Stored:
    """Derived from the newest closed candles of one symbol. Above 1m, one may be a window behind the minutes."""
    minute = newest.get(Timeframe.M1)
    if minute is None:
        return _Stored(None, 0.0)
    end = minute.open_time + Timeframe.M1.seconds
    behind = (one.at for one in newest.values() if one.open_time + 2 * one.timeframe.seconds <= end)
    return _Stored(minute.open_time, min(minute.at, *behind, minute.at))


def _missing_from(taken: _Taken, stored: _Stored) -> float:
    """The `at` from which candles may be missing."""
    joined = (
        stored.minute is not None and taken.first is not None and taken.first <= stored.minute + Timeframe.M1.seconds
    )
    # The queue continues where the store ends, so nothing is missing before this writer subscribed.
    since = taken.since if joined else min(taken.since, stored.until)
    return max(0.0, since - _MARGIN)
