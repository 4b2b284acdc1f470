"""The cache of recent candles, encoded: read from the store, updated from the bus.

The cache keeps a window of a series: every closed candle from some time on. The bus updates it with new candles,
corrections and filled gaps, so it is at least as new as the store. An import, a task of InfluxDB or its retention
changes the store without the bus. Such a change is visible after the next read of the window, which happens in the
background while the window is in use, so that no request waits for it.
"""

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from admin_api.candles.live import Frame, LiveCandles, StateVersion
from admin_api.candles.reads import BoundedReads
from ingress_common.logs import get_logger
from ingress_common.model import Candle, Series
from ingress_common.payloads import encode_candle
from ingress_store import StoreUnavailableError

WINDOW_SECONDS = 10.0
"""Maximum age of a window that serves a request."""

LATE_SECONDS = 30.0
"""Maximum age of a window in use, whose refresh in the background may be slow."""

REFRESH_SECONDS = 6.0
"""Age at which a window in use is refreshed."""

UNSTORED_SECONDS = 60.0
"""How long a closed candle of the bus is added to rows of the store: it may not be written yet."""

_LOOK_SECONDS = 0.5

WINDOWS = (1_100, 5_100)
"""Candles per window: for limits up to 1,000 and up to 5,000 (the maximum), with room for new candles."""

MAX_ROWS = 150_000
"""Maximum number of candles in all windows, at about 600 bytes each."""

_LOADS = 4
"""Maximum number of windows that are read from the store at once."""

_TURN = 250
"""Candles that are encoded before the event loop runs other tasks."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """Closed candles, oldest first: their open times (unix seconds) and their payloads."""

    times: list[int]
    payloads: list[bytes]


@dataclass(slots=True)
class _Window:
    """Every closed candle from `low` (unix seconds) on."""

    low: float
    read_at: float
    size: int
    forming: Candle | None
    used_at: float
    times: list[int] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    versions: list[StateVersion] = field(default_factory=list)

    def put(self, open_time: int, version: StateVersion, payload: bytes) -> int:
        """Add or replace a candle unless the window has a newer version; returns by how many the count grows."""
        place = bisect_left(self.times, open_time)
        if place < len(self.times) and self.times[place] == open_time:
            if self.versions[place] <= version:
                self.versions[place], self.payloads[place] = version, payload
            return 0
        if open_time < self.low:
            return 0
        self.times.insert(place, open_time)
        self.versions.insert(place, version)
        self.payloads.insert(place, payload)
        return 1

    def reaches(self, limit: int) -> bool:
        """Whether it has `limit` candles, or all that exist."""
        return len(self.times) >= limit or self.low == float("-inf")

    def trim(self, most: int) -> int:
        """Drop the oldest candles beyond `most`; returns how many."""
        extra = len(self.times) - most
        if extra <= 0:
            return 0
        del self.times[:extra], self.versions[:extra], self.payloads[:extra]
        self.low = self.times[0]
        return extra

    def newest(self, start: float | None, end: float | None, limit: int) -> Page | None:
        """The last `limit` candles of [start, end); None if the window does not reach that far back."""
        first = 0 if start is None else bisect_left(self.times, start)
        last = len(self.times) if end is None else bisect_left(self.times, end)
        if last - first >= limit:
            first = last - limit
        elif (float("-inf") if start is None else start) < self.low:
            return None
        return Page(self.times[first:last], self.payloads[first:last])

    def oldest(self, start: float | None, end: float | None, limit: int) -> Page | None:
        """The first `limit` candles of [start, end); None if the range begins before the window."""
        if (float("-inf") if start is None else start) < self.low:
            return None
        first = 0 if start is None else bisect_left(self.times, start)
        last = len(self.times) if end is None else bisect_left(self.times, end)
        last = max(first, min(last, first + limit))
        return Page(self.times[first:last], self.payloads[first:last])


class CandleCache:
    """Caches candles of `store` and `live`. `steady`: a monotonic clock in seconds; `clock`: unix seconds."""

    def __init__(
        self, store: BoundedReads, live: LiveCandles, steady: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._live = live
        self._steady = steady
        self._clock = clock
        self._windows: OrderedDict[Series, _Window] = OrderedDict()
        self._rows = 0
        self._reading: WeakValueDictionary[Series, asyncio.Lock] = WeakValueDictionary()
        self._loads = asyncio.Semaphore(_LOADS)

    @property
    def rows(self) -> int:
        """The number of candles kept."""
        return self._rows

    def take(self, frame: Frame) -> None:
        """Add a candle that was received from the bus."""
        window = self._windows.get(frame.series)
        if window is not None and frame.closed:
            self._rows += window.put(frame.open_time, frame.version, frame.payload)
            self._rows -= window.trim(WINDOWS[-1])

    async def refresh(self) -> None:
        """Refresh the windows in use before they are too old, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                for series, window in list(self._windows.items()):
                    now = self._steady()
                    if now - window.read_at > REFRESH_SECONDS and now - window.used_at <= REFRESH_SECONDS:
                        async with self._lock(series):
                            if self._windows.get(series) is window:
                                await self._load(series, window.size)
            except StoreUnavailableError as error:
                # The next request reports the error; here a retry is enough.
                log.debug("candles.refresh-failed", reason=str(error))

    def clear(self) -> None:
        """Drop everything: candles of the bus may have been missed."""
        self._windows.clear()
        self._rows = 0

    async def newest(self, series: Series, start: float | None, end: float | None, limit: int) -> Page:
        """The last `limit` closed candles with start <= open < end; StoreUnavailableError."""
        window = await self._window(series, limit if self._is_recent(series, end) else 0)
        page = window.newest(start, end, limit) if window else None
        if page is None:
            page = await self._read(series, start, end, self._store.newest_candles, limit)
            page = Page(page.times[-limit:], page.payloads[-limit:])
        return page

    async def oldest(self, series: Series, start: float | None, end: float | None, limit: int) -> Page:
        """The first `limit` closed candles with start <= open < end; StoreUnavailableError."""
        window = self._fresh(series)
        page = window.oldest(start, end, limit) if window else None
        if page is None:
            page = await self._read(series, start, end, self._store.candles, limit)
            page = Page(page.times[:limit], page.payloads[:limit])
        return page

    async def forming(self, series: Series) -> Frame | Candle | None:
        """The forming candle: from the bus if the series is live there, else from the store. StoreUnavailableError.

        A symbol that is no longer followed may keep a forming candle in the store. It counts until its window is over.
        """
        if self._is_live(series):
            return self._live.forming(series)
        window = self._fresh(series)
        candle = window.forming if window else await self._store.forming(*series)
        return candle if candle and candle.close_time + LATE_SECONDS > self._clock() else None

    def _is_live(self, series: Series) -> bool:
        """Whether the bus has this series."""
        return self._live.forming(series) is not None or self._live.newest(series) is not None

    def _unstored(self, series: Series) -> Iterator[Frame]:
        """The closed candles of the bus that the store may lack."""
        since = self._clock() - UNSTORED_SECONDS
        return (frame for frame in self._live.closed(series) if frame.came >= since)

    def _is_recent(self, series: Series, end: float | None) -> bool:
        """Whether a cached window can serve a range that ends at `end`."""
        if end is None:
            return True
        window = self._fresh(series)
        return window is not None and end > window.low

    def _fresh(self, series: Series) -> _Window | None:
        window = self._windows.get(series)
        if window is None:
            return None
        now = self._steady()
        if now - window.read_at > (LATE_SECONDS if now - window.used_at <= REFRESH_SECONDS else WINDOW_SECONDS):
            return None
        window.used_at = now
        self._windows.move_to_end(series)
        return window

    def _lock(self, series: Series) -> asyncio.Lock:
        """The lock that prevents two reads of a window at once; it exists while a task uses it."""
        return self._reading.setdefault(series, asyncio.Lock())

    async def _window(self, series: Series, limit: int) -> _Window | None:
        """The window of a series, with at least `limit` candles if the store has them; read if it is not cached."""
        if not 0 < limit <= WINDOWS[-1]:
            return self._fresh(series)
        window = self._fresh(series)
        if window is not None and window.reaches(limit):
            return window
        async with self._lock(series):
            window = self._fresh(series)
            if window is None or not window.reaches(limit):
                async with self._loads:
                    window = await self._load(series, next(size for size in WINDOWS if limit <= size))
                    window.used_at = window.read_at
            return window

    async def _load(self, series: Series, size: int) -> _Window:
        old = self._windows.get(series)
        began = self._steady()
        forming = None if self._is_live(series) else await self._store.forming(*series)
        candles = await self._store.newest_candles(*series, limit=size)
        low = candles[0].open_time if len(candles) == size else float("-inf")
        window = _Window(low, began, size, forming, old.used_at if old else began)
        known = dict(zip(old.times, zip(old.versions, old.payloads, strict=True), strict=True)) if old else {}
        await _fill(window, candles, known)
        for frame in self._unstored(series):
            window.put(frame.open_time, frame.version, frame.payload)
        self._remember(series, window)
        return window

    def _remember(self, series: Series, window: _Window) -> None:
        before = self._windows.pop(series, None)
        self._windows[series] = window
        self._rows += len(window.times) - (len(before.times) if before else 0)
        while self._rows > MAX_ROWS and len(self._windows) > 1:
            _, oldest = self._windows.popitem(last=False)
            self._rows -= len(oldest.times)

    async def _read(
        self,
        series: Series,
        start: float | None,
        end: float | None,
        read: Callable[..., Awaitable[list[Candle]]],
        limit: int,
    ) -> Page:
        """Read from the store, and add closed candles of the bus that it may lack. May return more than `limit`."""
        window = _Window(float("-inf"), 0, limit, None, 0)
        await _fill(window, await read(*series, start=start, end=end, limit=limit), {})
        low = float("-inf") if start is None else start
        high = float("inf") if end is None else end
        for frame in self._unstored(series):
            if low <= frame.open_time < high:
                window.put(frame.open_time, frame.version, frame.payload)
        return Page(window.times, window.payloads)


async def _fill(window: _Window, candles: Sequence[Candle], known: Mapping[int, tuple[StateVersion, bytes]]) -> None:
    """Put stored candles into an empty window; those `known` in the same version keep their payload."""
    for place, candle in enumerate(candles):
        version = (candle.at, candle.revision)
        was = known.get(candle.open_time)
        window.times.append(candle.open_time)
        window.versions.append(version)
        window.payloads.append(was[1] if was is not None and was[0] == version else encode_candle(candle))
        if place % _TURN == _TURN - 1:
            await asyncio.sleep(0)
