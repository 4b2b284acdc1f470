"""Reading candles. Every query has a bounded range, so that its cost follows from the request."""

import math
from collections.abc import AsyncIterator, Collection, Sequence

from ingress_common.gaps import Gap
from ingress_common.model import Candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store.gaps import gaps_of
from ingress_store.influx import flux, names
from ingress_store.influx.rows import at_of, candle_of, our_rows_of, rows_of, seconds_of, tick_of, version_of
from ingress_store.influx.server import NoRightError, NotThereError, Server
from ingress_store.influx.versions import Identity, StoredVersion
from ingress_store.port import Freshness

_PIECE = 2_000
"""Windows in the first piece beyond those requested. Later pieces grow, because the range may hold few rows."""

_RECENT_WINDOWS = 3
_NAMED_SYMBOLS = 50


class Reader:
    """Queries for candles, on one server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    async def oldest(
        self, symbol: str, timeframe: Timeframe, start: float | None, end: float | None, limit: int
    ) -> list[Candle]:
        """The first `limit` closed candles of [start, end)."""
        found: list[Candle] = []
        low, high = _bounds(start, end)
        windows = limit + _RECENT_WINDOWS
        if _is_short(low, high, windows, timeframe):
            return (await self._closed(symbol, timeframe, low, high))[:limit]
        while len(found) < limit and low < high:
            first = await self._edge(symbol, timeframe, low, high, "first")
            if first is None:
                break
            stop = min(high, first[0] + windows * timeframe.seconds)
            found += await self._closed(symbol, timeframe, first[0], stop)
            low, windows = stop, max(windows * 2, _PIECE)
        return found[:limit]

    async def newest(
        self, symbol: str, timeframe: Timeframe, start: float | None, end: float | None, limit: int
    ) -> list[Candle]:
        """The last `limit` closed candles of [start, end), oldest first."""
        found: list[Candle] = []
        low, high = _bounds(start, end)
        windows = limit + _RECENT_WINDOWS
        if _is_short(low, high, windows, timeframe):
            return (await self._closed(symbol, timeframe, low, high))[-limit:]
        while len(found) < limit and low < high:
            last = await self._edge(symbol, timeframe, low, high, "last")
            if last is None:
                break
            begin = max(low, last[0] + timeframe.seconds - windows * timeframe.seconds)
            found = await self._closed(symbol, timeframe, begin, last[0] + 1) + found
            high, windows = begin, max(windows * 2, _PIECE)
        return found[-limit:]

    async def forming(self, symbol: str, timeframe: Timeframe) -> Candle | None:
        """The newest candle, if it is not closed."""
        last = await self._edge(symbol, timeframe, flux.FIRST, flux.LAST, "last")
        if last is None or last[1]:
            return None
        rows = await self._rows(symbol, timeframe, last[0], last[0] + 1)
        return rows[0] if rows and not rows[0].closed else None

    async def ticks(self, symbol: str, start: float, end: float, limit: int) -> list[Candle]:
        """The first `limit` ticks of [start, end) by `at`."""
        low, high = _bounds(start, end, whole=False)
        if low >= high:
            return []
        rows = our_rows_of(await self._query(flux.ticks(names.TICKS, symbol, low, high, limit)))
        return [tick for tick in map(tick_of, rows) if tick is not None]

    async def symbols(self) -> list[str]:
        """Every symbol that has candles, sorted."""
        text = flux.symbols(names.candles(timeframe) for timeframe in TIMEFRAMES)
        return sorted({row["_value"] for row in rows_of(await self._query(text))})

    async def latest(self) -> list[Freshness]:
        """The newest closed candle of every symbol and timeframe, sorted by symbol, lowest timeframe first.

        A missing bucket is omitted, unless all are missing.
        """
        try:
            found = await self._latest(TIMEFRAMES)
        except (NoRightError, NotThereError):
            found, missing = [], 0
            for timeframe in TIMEFRAMES:
                try:
                    found += await self._latest((timeframe,))
                except (NoRightError, NotThereError):
                    missing += 1
                    if missing == len(TIMEFRAMES):
                        raise
        order = {timeframe: place for place, timeframe in enumerate(TIMEFRAMES)}
        return sorted(found, key=lambda f: (f.symbol, order[f.timeframe]))

    async def _latest(self, timeframes: Sequence[Timeframe]) -> list[Freshness]:
        buckets = {names.candles(timeframe): timeframe for timeframe in timeframes}
        text = flux.newest_versions(buckets, flux.FIRST, flux.LAST)
        closed: dict[tuple[str, Timeframe], Freshness] = {}
        forming: dict[tuple[Timeframe, int], set[str]] = {}
        for row in our_rows_of(await self._query(text)):
            timeframe = buckets[row["result"]]
            open_time = seconds_of(row["_time"])
            if row.get("closed") == "true":
                closed[row["symbol"], timeframe] = _freshness(row, timeframe)
            elif row.get("closed"):
                forming.setdefault((timeframe, open_time), set()).add(row["symbol"])
        # Most of the newest candles are forming and of one window; the closed ones before them need few further
        # queries.
        for (timeframe, open_time), symbols in forming.items():
            async for freshness in self._closed_before(timeframe, open_time, symbols):
                closed[freshness.symbol, timeframe] = freshness
        return list(closed.values())

    async def newest_closed(self, timeframe: Timeframe, since: float) -> dict[str, int]:
        """The open time of every symbol's newest closed candle since `since`."""
        low, high = _bounds(since, None)
        rows = our_rows_of(await self._query(flux.newest_closed(names.candles(timeframe), low, high)))
        return {row["symbol"]: seconds_of(row["_time"]) for row in rows}

    async def gaps(self, timeframe: Timeframe, start: float, end: float) -> list[Gap]:
        """Where closed candles are missing or incomplete in [start, end), widened to whole windows."""
        low, high = _bounds(timeframe.floor(start), timeframe.ceil(end))
        if low >= high:
            return []
        missing: list[tuple[str, int, int]] = []
        incomplete: set[tuple[str, int]] = set()
        forming: set[tuple[str, int]] = set()
        text = flux.gaps(names.candles(timeframe), timeframe.seconds, low, high)
        for row in our_rows_of(await self._query(text)):
            place = (row["symbol"], seconds_of(row["_time"]))
            if row["result"] == flux.MISSING:
                symbol, after = place
                missing.append((symbol, after - int(row["elapsed"]) + timeframe.seconds, after))
            elif row["result"] == flux.INCOMPLETE:
                incomplete.add(place)
            else:
                forming.add(place)
        return gaps_of(timeframe, missing, incomplete - forming)

    async def versions(
        self, symbols: Collection[str], timeframe: Timeframe, start: float, end: float
    ) -> dict[Identity, StoredVersion]:
        """The stored versions of the candles of `symbols` with start <= open_time < end."""
        low, high = _bounds(start, end)
        if low >= high:
            return {}
        named = tuple(symbols) if len(symbols) <= _NAMED_SYMBOLS else None
        text = flux.rows(names.candles(timeframe), named, low, high, ("closed", "at", "revision"))
        wanted = frozenset(symbols)
        rows = our_rows_of(await self._query(text))
        return {
            (row["symbol"], timeframe, seconds_of(row["_time"])): version_of(row)
            for row in rows
            if row["symbol"] in wanted
        }

    async def _closed_before(self, timeframe: Timeframe, open_time: int, symbols: set[str]) -> AsyncIterator[Freshness]:
        start = open_time - _RECENT_WINDOWS * timeframe.seconds
        text = flux.rows(names.candles(timeframe), None, start, open_time, ("closed", "at"))
        recent: dict[str, Freshness] = {}
        for row in our_rows_of(await self._query(text)):
            if row.get("closed") == "true" and row["symbol"] in symbols:
                freshness = _freshness(row, timeframe)
                known = recent.get(freshness.symbol)
                if known is None or freshness.open_time > known.open_time:
                    recent[freshness.symbol] = freshness
        for freshness in recent.values():
            yield freshness
        for symbol in symbols - recent.keys():
            for candle in await self.newest(symbol, timeframe, None, start, 1):
                yield Freshness(symbol, timeframe, candle.open_time, candle.at)

    async def _closed(self, symbol: str, timeframe: Timeframe, start: float, stop: float) -> list[Candle]:
        return [candle for candle in await self._rows(symbol, timeframe, start, stop) if candle.closed]

    async def _rows(self, symbol: str, timeframe: Timeframe, start: float, stop: float) -> list[Candle]:
        text = await self._query(flux.rows(names.candles(timeframe), (symbol,), start, stop))
        candles = (candle_of(row, timeframe) for row in our_rows_of(text))
        return sorted((candle for candle in candles if candle is not None), key=lambda candle: candle.open_time)

    async def _edge(
        self, symbol: str, timeframe: Timeframe, start: float, stop: float, which: str
    ) -> tuple[int, bool] | None:
        """Open time of the `first` or `last` candle in [start, stop), and whether it is closed."""
        text = await self._query(flux.edge(names.candles(timeframe), symbol, start, stop, which))
        for row in our_rows_of(text):
            return seconds_of(row["_time"]), row["_value"] == "true"
        return None

    async def _query(self, text: str) -> str:
        return await self.server.query(text)


def _freshness(row: dict[str, str], timeframe: Timeframe) -> Freshness:
    open_time = seconds_of(row["_time"])
    at = at_of(row)
    return Freshness(row["symbol"], timeframe, open_time, float(open_time + timeframe.seconds) if at is None else at)


def _is_short(low: float, high: float, windows: int, timeframe: Timeframe) -> bool:
    """Whether the range holds at most `windows`: then it is read at once, without finding its edge first."""
    return low < high and high - low <= windows * timeframe.seconds


def _bounds(start: float | None, end: float | None, *, whole: bool = True) -> tuple[float, float]:
    """The range within the times of InfluxDB; `whole`: in whole seconds, like open times."""
    low = flux.FIRST if start is None else min(max(start, flux.FIRST), flux.LAST)
    high = flux.LAST if end is None else min(max(end, flux.FIRST), flux.LAST)
    return (math.ceil(low), math.ceil(high)) if whole else (low, high)
