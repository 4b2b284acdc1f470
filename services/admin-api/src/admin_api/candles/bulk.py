"""Bulk reads as CSV or Arrow: read and sent page by page."""

from collections.abc import AsyncGenerator

from starlette.exceptions import HTTPException

from admin_api.candles.formats import Format
from admin_api.candles.reads import BoundedReads
from ingress_common.model import Series

PAGE = 2_000
"""Candles per page: read, encoded and sent at once."""

MAX_READS = 8
"""Maximum number of bulk reads at once; at their maximum size they take about 60 MB."""

Bound = float | None


class BulkReads:
    """Bulk reads of `store`, at most `MAX_READS` at once, which bounds their memory."""

    def __init__(self, store: BoundedReads) -> None:
        self._store = store
        self._under_way = 0

    async def pages(
        self, series: Series, start: Bound, end: Bound, limit: int, form: Format, *, oldest: bool
    ) -> AsyncGenerator[bytes, None]:
        """The parts of a response. The first contains the first page, so an early failure precedes any output.

        The newest `limit` candles are read backwards, and kept encoded until they can be sent forwards: about 70 bytes
        each. StoreUnavailableError; HTTPException (503) if the maximum number is running.
        """
        if self._under_way >= MAX_READS:
            raise HTTPException(503, f"expected at most {MAX_READS} bulk reads at once, got another one")
        self._under_way += 1
        try:
            parts = _forwards if oldest or _holds(series, start, end, limit) else _backwards
            async for part in parts(self._store, series, start, end, limit, form):
                yield part
        finally:
            self._under_way -= 1


async def _forwards(
    store: BoundedReads, series: Series, start: Bound, end: Bound, limit: int, form: Format
) -> AsyncGenerator[bytes, None]:
    head = form.head()
    while limit > 0:
        wanted = min(PAGE, limit)
        candles = await store.candles(*series, start=start, end=end, limit=wanted)
        yield head + form.page(candles)
        head = b""
        limit = limit - wanted if len(candles) == wanted else 0
        start = candles[-1].close_time if candles else end
    yield form.tail()


async def _backwards(
    store: BoundedReads, series: Series, start: Bound, end: Bound, limit: int, form: Format
) -> AsyncGenerator[bytes, None]:
    written: list[bytes] = []
    while limit > 0:
        wanted = min(PAGE, limit)
        candles = await store.newest_candles(*series, start=start, end=end, limit=wanted)
        written.append(form.page(candles))
        limit = limit - wanted if len(candles) == wanted else 0
        end = candles[0].open_time if candles else start
    yield form.head()
    while written:
        yield written.pop()
    yield form.tail()


def _holds(series: Series, start: Bound, end: Bound, limit: int) -> bool:
    """Whether a range holds at most `limit` candles."""
    return start is not None and end is not None and (end - start) / series[1].seconds <= limit - 1
