"""`GET /symbols` and `GET /candles/{symbol}`."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from admin_api.http import models
from admin_api.http.answers import keepable
from admin_api.http.context import Context
from admin_api.http.parameters import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MAX_SYMBOLS,
    FormatParameter,
    FromParameter,
    KeepParameter,
    LimitParameter,
    OffsetParameter,
    SearchParameter,
    SymbolLimitParameter,
    TimeframeParameter,
    ToParameter,
    once,
)
from admin_api.http.problems import InvalidError, documented
from admin_api.reading import bulk
from admin_api.reading.formats import Arrow, Csv, Format
from admin_api.reading.live import Frame, Series
from admin_api.reading.recent import Page
from admin_api.system.health import carried_symbols
from ingress_common.model import Candle
from ingress_common.payloads import encode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, symbol_of, topic_symbol
from ingress_store import Freshness

_RECENT_SECONDS = 3600.0
"""A range that ended longer ago is past: only a repair or a correction changes it."""

_LIVE, _SHORT, _PAST = "no-cache", "max-age=30", "max-age=3600"

_JSON = "application/json"

_CANDLES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Candles, oldest first",
        "content": {
            _JSON: {"schema": models.CANDLES},
            "text/csv": {"schema": {"type": "string"}, "example": models.CSV_EXAMPLE},
            Arrow.media_type: {"schema": {"type": "string", "format": "binary"}},
        },
        "headers": {
            "ETag": {"description": "Of JSON: for If-None-Match", "schema": {"type": "string"}},
            "Link": {
                "description": "RFC 8288. `previous`: the candles of the range before these; `next`: with keep=oldest, "
                "those after them. Absent where there are none.",
                "schema": {"type": "string"},
            },
        },
    },
    304: {"description": "The client has it already (If-None-Match)"},
}


def router(context: Context) -> APIRouter:
    """Routes for reading candles."""
    routes = APIRouter(tags=["candles"])

    @routes.get(
        "/symbols",
        response_model=models.Symbols,
        responses=documented(422, 503),
        dependencies=[Depends(once("search", "limit", "offset"))],
    )
    async def symbols(
        search: SearchParameter = "", limit: SymbolLimitParameter = MAX_SYMBOLS, offset: OffsetParameter = 0
    ) -> dict[str, Any]:
        """Every symbol that the store or the bus knows, its timeframes, and how fresh it is."""
        series: dict[str, list[Freshness]] = {symbol: [] for symbol in await context.store.symbols()}
        for freshness in await context.store.latest():
            series.setdefault(freshness.symbol, []).append(freshness)
        now = context.clock()
        carried = carried_symbols(context.view, now)
        for symbol in (*context.view.symbols, *carried):
            series.setdefault(symbol, [])
        wanted = search.strip().upper().replace("-", "/")
        found = sorted(symbol for symbol in series if wanted in symbol.upper())
        page = found[offset : offset + limit]
        return {
            "symbols": [_symbol(symbol, series[symbol], symbol in carried, now) for symbol in page],
            "total": len(found),
        }

    @routes.get(
        "/candles/{symbol}",
        response_class=Response,
        responses={**_CANDLES, **documented(404, 406, 422, 503)},
        dependencies=[Depends(once("timeframe", "from", "to", "limit", "keep", "format"))],
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
    ) -> Response:
        """Candles as on the bus, oldest first: closed ones, and the forming one last if it is in the range.

        As CSV or Arrow only closed ones, with the columns of `crypto-ingress export`; in CSV with exact decimals, in
        Arrow as 64-bit floats.
        """
        if start is not None and end is not None and start > end:
            raise InvalidError("", f"expected from to be no later than to, got {rfc3339(start)} and {rfc3339(end)}")
        try:
            name = symbol_of(symbol)
        except TopicError as error:
            raise HTTPException(404, f"unknown symbol: {error}") from None
        written = _format(request, form)
        series = (name, timeframe)
        if written is not None:
            await context.must_know(name)
            return await _bulk(context, series, start, end, limit, written, oldest=keep == "oldest")
        if limit > MAX_LIMIT:
            raise InvalidError("limit", f"expected a number from 1 to {MAX_LIMIT} with format=json, got '{limit}'")
        # One more than asked for tells whether there is another page.
        read = context.recent.oldest if keep == "oldest" else context.recent.newest
        page = await read(series, start, end, limit + 1)
        forming = await context.recent.forming(series)
        if not page.times:
            await context.must_know(name)
        answer = _Answer(series, start, end, limit, page, forming, oldest=keep == "oldest")
        headers = {"Cache-Control": answer.cache_control(context.clock())}
        link = answer.link()
        if link is not None:
            headers["Link"] = link
        return await keepable(request, answer.body(), _JSON, headers)

    return routes


class _Answer:
    """What is answered of a page that was read with room for one candle more than asked for."""

    def __init__(
        self,
        series: Series,
        start: float | None,
        end: float | None,
        limit: int,
        page: Page,
        forming: Frame | Candle | None,
        *,
        oldest: bool,
    ) -> None:
        self._series = series
        self._start, self._end = start, end
        self._limit = limit
        self._oldest = oldest
        times, payloads = page.times, page.payloads
        self._forming = False
        if forming is not None and self._follows(forming.open_time, times):
            times = [*times, forming.open_time]
            payloads = [*payloads, forming.payload if isinstance(forming, Frame) else encode_candle(forming)]
            self._forming = True
        self._cut = len(times) > limit
        self._forming = self._forming and not (self._cut and oldest)
        kept = slice(None, limit) if oldest else slice(-limit, None)
        self._times, self._payloads = times[kept], payloads[kept]

    def body(self) -> bytes:
        """Put together by hand, so that each candle has the bytes that it has on the bus, exact decimals included."""
        symbol, timeframe = self._series
        head = f'{{"symbol":{json.dumps(symbol)},"timeframe":"{timeframe.value}","candles":['
        return head.encode() + b",".join(self._payloads) + b"]}"

    def cache_control(self, now: float) -> str:
        """How long a client may keep it: the longer, the less can still change."""
        if self._end is None or self._forming or self._end > now:
            return _LIVE
        return _PAST if self._end <= now - _RECENT_SECONDS and self._is_whole() else _SHORT

    def link(self) -> str | None:
        """The pages beside this one, within the range."""
        if not self._cut:
            return None
        seconds = self._series[1].seconds
        if self._oldest:
            return self._reference("next", self._times[-1] + seconds, self._end)
        return self._reference("previous", self._start, self._times[0])

    def _follows(self, open_time: int, times: Sequence[int]) -> bool:
        """Whether the forming candle is in the range, and was not closed between the two questions."""
        if self._start is not None and open_time < self._start:
            return False
        if self._end is not None and open_time >= self._end:
            return False
        return not times or times[-1] < open_time

    def _is_whole(self) -> bool:
        """Whether no candle between the first and the last is missing or incomplete."""
        if not self._times:
            return False
        windows = (self._times[-1] - self._times[0]) // self._series[1].seconds + 1
        return windows == len(self._times) and not any(b'"complete":false' in payload for payload in self._payloads)

    def _reference(self, relation: str, start: float | None, end: float | None) -> str:
        symbol, timeframe = self._series
        query: dict[str, str] = {"timeframe": timeframe.value, "limit": str(self._limit)}
        if start is not None:
            query["from"] = f"{start:.15g}"
        if end is not None:
            query["to"] = f"{end:.15g}"
        if self._oldest:
            query["keep"] = "oldest"
        return f'</candles/{topic_symbol(symbol)}?{urlencode(query)}>; rel="{relation}"'


def _format(request: Request, form: str | None) -> Format | None:
    """The format that is asked for by `format`, else by Accept; None for JSON."""
    if form is not None:
        return {"json": None, "csv": Csv(), "arrow": Arrow()}[form]
    accept = request.headers.get("accept", "*/*").lower()
    wanted = [part.partition(";")[0].strip() for part in accept.split(",")]
    for media in wanted:
        if media in ("", "*/*", "application/*", _JSON):
            return None
        if media in ("text/csv", "text/*"):
            return Csv()
        if media == Arrow.media_type:
            return Arrow()
    raise HTTPException(406, f"expected Accept to hold {_JSON}, text/csv or {Arrow.media_type}, got {accept[:100]!r}")


async def _bulk(
    context: Context,
    series: Series,
    start: float | None,
    end: float | None,
    limit: int,
    form: Format,
    *,
    oldest: bool,
) -> Response:
    parts = context.bulk.pages(series, start, end, limit, form, oldest=oldest)
    try:
        first = await anext(parts)
    except bulk.TooManyReadsError as error:
        raise HTTPException(503, str(error), headers={"Retry-After": "5"}) from None

    async def body() -> AsyncIterator[bytes]:
        async with aclosing(parts):
            yield first
            async for part in parts:
                yield part

    name = f"{topic_symbol(series[0])}-{series[1].value}.{form.suffix}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": _LIVE, "Vary": "Accept"}
    return StreamingResponse(body(), headers=headers, media_type=form.media_type)


def _symbol(symbol: str, series: list[Freshness], live: bool, now: float) -> dict[str, Any]:  # noqa: FBT001 - a field
    at = max((freshness.at for freshness in series), default=None)
    return {
        "symbol": symbol,
        "timeframes": [freshness.timeframe.value for freshness in series],
        "newest": {freshness.timeframe.value: rfc3339(freshness.open_time) for freshness in series},
        "at": None if at is None else rfc3339(at),
        "age_seconds": None if at is None else round(now - at, 3),
        "live": live,
    }
