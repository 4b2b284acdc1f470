"""Bulk reads as CSV or Arrow: read page by page."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

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
        self.store = store
        self._under_way = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count a read; HTTPException (503) if the maximum number is running."""
        if self._under_way >= MAX_READS:
            raise HTTPException(503, f"expected at most {MAX_READS} bulk reads at once, got another one")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


class BulkRead:
    """A read of at most `limit` candles of a range: the oldest or the newest ones.

    `rest` is known with the first part: where the rest of the range begins, or with the newest candles where it ends;
    None if there is no rest.
    """

    def __init__(self, reads: BulkReads, series: Series, start: Bound, end: Bound, limit: int, *, oldest: bool) -> None:
        self.rest: Bound = None
        self._reads = reads
        self._series = series
        self._start, self._end = start, end
        self._limit = limit
        # A range that holds no more than the limit is whole, so it is sent while it is read.
        self._is_whole = start is not None and end is not None and (end - start) / series[1].seconds <= limit - 1
        self._oldest = oldest or self._is_whole

    async def parts(self, form: Format) -> AsyncGenerator[bytes, None]:
        """The parts of a response. The first contains the first page, so an early failure precedes any output.

        A range that may have a rest is read as a whole, and kept encoded until it is sent: about 70 bytes a candle.
        StoreUnavailableError; HTTPException (503) if the maximum number is running.
        """
        with self._reads.running():
            head = form.head()
            if self._is_whole:
                async for page in self._pages(form):
                    yield head + page
                    head = b""
            else:
                pages = [page async for page in self._pages(form)]
                if self._oldest:
                    pages.reverse()
                while pages:
                    yield head + pages.pop()
                    head = b""
            yield form.tail()

    async def _pages(self, form: Format) -> AsyncGenerator[bytes, None]:
        """The encoded pages; without `oldest` from the newest to the oldest."""
        store = self._reads.store
        read = store.candles if self._oldest else store.newest_candles
        start, end, left = self._start, self._end, self._limit
        while left > 0:
            wanted = min(PAGE, left)
            candles = await read(*self._series, start=start, end=end, limit=wanted)
            yield form.page(candles)
            if len(candles) < wanted:
                return
            left -= wanted
            if self._oldest:
                start = candles[-1].close_time
            else:
                end = candles[0].open_time
        if not self._is_whole and await read(*self._series, start=start, end=end, limit=1):
            self.rest = start if self._oldest else end
