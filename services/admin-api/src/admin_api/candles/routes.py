"""`GET /symbols` and `GET /candles/{symbol}`."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from admin_api.candles import bodies, bulk
from admin_api.candles.cache import CandleCache, Page
from admin_api.candles.formats import ARROW_MEDIA_TYPE, PARQUET_MEDIA_TYPE, Csv, Format, Numbers
from admin_api.candles.live import Frame
from admin_api.candles.parameters import (
    DEFAULT_LIMIT,
    LIMITS,
    MAX_LIMIT,
    MAX_SYMBOLS,
    FormatParameter,
    FromParameter,
    KeepParameter,
    LimitParameter,
    NumbersParameter,
    OffsetParameter,
    SearchParameter,
    SymbolLimitParameter,
    TimeframeParameter,
    ToParameter,
)
from admin_api.candles.symbols import Symbols
from admin_api.http.compression import conditional
from admin_api.http.parameters import once
from admin_api.http.problems import InvalidError, documented
from admin_api.http.responses import JSON, described, json_response
from ingress_common.model import Candle, Series
from ingress_common.payloads import encode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, symbol_of, topic_symbol

_RECENT_SECONDS = 3600.0
"""Only a repair or a correction changes a range that ended longer ago, so clients may cache it."""

_LIVE, _SHORT, _PAST = "no-cache", "max-age=30", "max-age=3600"

_FORMATS = {
    **dict.fromkeys(("", "*/*", "application/*", JSON), "json"),
    **dict.fromkeys(("text/csv", "text/*"), "csv"),
    ARROW_MEDIA_TYPE: "arrow",
    PARQUET_MEDIA_TYPE: "parquet",
}
"""The format of a media type in the header Accept."""

_CANDLES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Candles, oldest first",
        "content": {
            **described(bodies.CandlesBody)["content"],
            "text/csv": {"schema": {"type": "string"}, "example": bodies.CSV_EXAMPLE},
            ARROW_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
            PARQUET_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
        },
        "headers": {
            "ETag": {"description": "Of JSON responses; for If-None-Match", "schema": {"type": "string"}},
            "Link": {
                "description": "RFC 8288. `previous`: the candles of the range before these; `next` (with "
                "keep=oldest): those after them. Absent on the last page. Every format has it.",
                "schema": {"type": "string"},
            },
        },
    },
    304: {"description": "Unchanged (If-None-Match)"},
}


def router(symbols: Symbols, cache: CandleCache, bulk_reads: bulk.BulkReads, clock: Callable[[], float]) -> APIRouter:
    """Routes of symbols and candles. `clock` in unix seconds."""
    routes = APIRouter(tags=["candles"], default_response_class=Response)

    @routes.get(
        "/symbols",
        responses={200: described(bodies.SymbolsBody), **documented(422, 503)},
        dependencies=[Depends(once("search", "limit", "offset"))],
    )
    async def listed(
        search: SearchParameter = "", limit: SymbolLimitParameter = MAX_SYMBOLS, offset: OffsetParameter = 0
    ) -> Response:
        """Every symbol in the store or on the bus, its timeframes and their freshness."""
        wanted = search.strip().upper().replace("-", "/")
        return json_response(await symbols.page(wanted, limit, offset))

    @routes.get(
        "/candles/{symbol}",
        responses={**_CANDLES, **documented(404, 406, 422, 503)},
        dependencies=[Depends(once("timeframe", "from", "to", "limit", "keep", "format", "numbers"))],
    )
    async def candles(
        request: Request,
        symbol: Annotated[str, Path(description="BTC-USD for BTC/USD", examples=["BTC-USD"], max_length=64)],
        timeframe: TimeframeParameter = Timeframe.M1,
        start: FromParameter = None,
        end: ToParameter = None,
        limit: LimitParameter = DEFAULT_LIMIT,
        keep: KeepParameter = "newest",
        form: FormatParameter = None,
        numbers: NumbersParameter = Numbers.FLOAT,
    ) -> Response:
        """Candles as on the bus, oldest first: closed ones, and last the forming one if it is in the range.

        CSV, Arrow and Parquet contain only closed candles, with the columns of `crypto-ingress export`. CSV has exact
        decimals; in Arrow and Parquet `numbers` selects the type.
        """
        if start is not None and end is not None and start > end:
            raise InvalidError("", f"expected `from` no later than `to`, got {rfc3339(start)} and {rfc3339(end)}")
        try:
            name = symbol_of(symbol)
        except TopicError as error:
            raise HTTPException(404, f"unknown symbol: {error}") from None
        written = form or _accepted(request)
        kind: dict[str, str] = {"format": form} if form else {}
        if numbers is not Numbers.FLOAT:
            kind["numbers"] = numbers.value
        wanted = _Range((name, timeframe), start, end, limit, oldest=keep == "oldest", kind=kind)
        if written != "json":
            await symbols.must_know(name)
            if written == "parquet":
                return await _parquet(bulk_reads, wanted, numbers)
            return await _bulk(bulk_reads, wanted, Csv() if written == "csv" else _arrow(numbers))
        if limit > MAX_LIMIT:
            raise InvalidError("limit", f"expected {LIMITS}, got '{limit}'")
        # One candle more than requested shows whether there is another page.
        read = cache.oldest if wanted.oldest else cache.newest
        page = await read(wanted.series, start, end, limit + 1)
        forming = await cache.forming(wanted.series)
        if not page.times:
            await symbols.must_know(name)
        response = _CandleResponse(wanted, page, forming)
        headers = {"Cache-Control": response.cache_control(clock()), **wanted.link(response.rest())}
        return conditional(request, response.body(), JSON, headers)

    return routes


@dataclass(frozen=True, slots=True)
class _Range:
    """The range of a read, and the parameters that give its format."""

    series: Series
    start: float | None
    end: float | None
    limit: int
    oldest: bool
    kind: Mapping[str, str]

    def __contains__(self, open_time: int) -> bool:
        return (self.start is None or self.start <= open_time) and (self.end is None or open_time < self.end)

    def bulk_headers(self, suffix: str, rest: float | None) -> dict[str, str]:
        """The headers of a bulk read: the file's name, no caching, and the page that begins or ends at `rest`."""
        name = f"{topic_symbol(self.series[0])}-{self.series[1].value}.{suffix}"
        return {
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": _LIVE,
            "Vary": "Accept",
            **self.link(rest),
        }

    def bulk_read(self, reads: bulk.BulkReads) -> bulk.BulkRead:
        """The range as a bulk read."""
        return bulk.BulkRead(reads, self.series, self.start, self.end, self.limit, oldest=self.oldest)

    def link(self, rest: float | None) -> dict[str, str]:
        """The header Link to the page that begins at `rest`, or with the newest candles ends there; None has none."""
        if rest is None:
            return {}
        start, end = (rest, self.end) if self.oldest else (self.start, rest)
        symbol, timeframe = self.series
        query: dict[str, str] = {"timeframe": timeframe.value, "limit": str(self.limit)}
        if start is not None:
            query["from"] = f"{start:.15g}"
        if end is not None:
            query["to"] = f"{end:.15g}"
        if self.oldest:
            query["keep"] = "oldest"
        query.update(self.kind)
        relation = "next" if self.oldest else "previous"
        # Relative, so that it works behind a proxy that adds a path.
        return {"Link": f'<{topic_symbol(symbol)}?{urlencode(query)}>; rel="{relation}"'}


class _CandleResponse:
    """The JSON response of a page. The page has one candle more than requested if another page follows."""

    def __init__(self, wanted: _Range, page: Page, forming: Frame | Candle | None) -> None:
        self._wanted = wanted
        times, payloads = page.times, page.payloads
        self._forming = False
        # It may have been closed between the two reads.
        if forming is not None and forming.open_time in wanted and not (times and times[-1] >= forming.open_time):
            times = [*times, forming.open_time]
            payloads = [*payloads, forming.payload if isinstance(forming, Frame) else encode_candle(forming)]
            self._forming = True
        self._cut = len(times) > wanted.limit
        self._forming = self._forming and not (self._cut and wanted.oldest)
        kept = slice(None, wanted.limit) if wanted.oldest else slice(-wanted.limit, None)
        self._times, self._payloads = times[kept], payloads[kept]

    def body(self) -> bytes:
        """The body, joined from the candles' bytes as on the bus, with exact decimals."""
        symbol, timeframe = self._wanted.series
        head = f'{{"symbol":{json.dumps(symbol)},"timeframe":"{timeframe.value}","candles":['
        return head.encode() + b",".join(self._payloads) + b"]}"

    def cache_control(self, now: float) -> str:
        """The Cache-Control header: the older and more complete the range, the longer clients may cache it."""
        end = self._wanted.end
        if end is None or self._forming or end > now:
            return _LIVE
        return _PAST if end <= now - _RECENT_SECONDS and self._is_whole() else _SHORT

    def rest(self) -> int | None:
        """Where the rest of the range begins, or with the newest candles where it ends; None if there is no rest."""
        if not self._cut:
            return None
        return self._times[-1] + self._wanted.series[1].seconds if self._wanted.oldest else self._times[0]

    def _is_whole(self) -> bool:
        """Whether no candle between the first and the last is missing or incomplete."""
        if not self._times:
            return False
        windows = (self._times[-1] - self._times[0]) // self._wanted.series[1].seconds + 1
        return windows == len(self._times) and not any(b'"complete":false' in payload for payload in self._payloads)


def _accepted(request: Request) -> str:
    """The format that the header Accept requests; HTTPException 406 if it accepts none."""
    accept = request.headers.get("accept", "*/*").lower()
    for part in accept.split(","):
        form = _FORMATS.get(part.partition(";")[0].strip())
        if form is not None:
            return form
    kinds = f"{JSON}, text/csv, {ARROW_MEDIA_TYPE} or {PARQUET_MEDIA_TYPE}"
    raise HTTPException(406, f"expected Accept to hold {kinds}, got {accept[:100]!r}")


async def _bulk(reads: bulk.BulkReads, wanted: _Range, form: Format) -> Response:
    read = wanted.bulk_read(reads)
    parts = read.parts(form)
    first = await anext(parts)

    async def body() -> AsyncIterator[bytes]:
        async with aclosing(parts):
            yield first
            async for part in parts:
                yield part

    return StreamingResponse(body(), headers=wanted.bulk_headers(form.suffix, read.rest), media_type=form.media_type)


async def _parquet(reads: bulk.BulkReads, wanted: _Range, numbers: Numbers) -> Response:
    """A Parquet response. The whole range is read first, because Parquet groups columns and ends with its index."""
    read = wanted.bulk_read(reads)
    stream = b"".join([part async for part in read.parts(_arrow(numbers))])
    from admin_api.candles.arrow import parquet

    body = await asyncio.to_thread(parquet, stream)
    return Response(body, headers=wanted.bulk_headers("parquet", read.rest), media_type=PARQUET_MEDIA_TYPE)


def _arrow(numbers: Numbers) -> Format:
    from admin_api.candles.arrow import Arrow

    return Arrow(numbers)
