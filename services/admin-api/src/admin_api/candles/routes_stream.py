"""`GET /stream`."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response

from admin_api.candles import bodies
from admin_api.candles.cache import CandleCache
from admin_api.candles.live import LiveCandles
from admin_api.candles.parameters import SymbolsParameter, TimeframesParameter
from admin_api.candles.resume import beginning
from admin_api.candles.stream import EventStream, Streams
from admin_api.candles.symbols import Symbols
from admin_api.http.limits import address_of
from admin_api.http.parameters import once
from admin_api.http.problems import documented
from ingress_common.timeframes import TIMEFRAMES

_MAX_ID = 64

_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Endless events: `candle` (data: the candle as on the bus), `reset` (data: reason; candles may "
        "have been missed: read them again), `error` (data: reason; the stream ends), and comments as heartbeat",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": bodies.EVENT_EXAMPLE}},
    }
}


def router(
    symbols: Symbols, live: LiveCandles, cache: CandleCache, streams: Streams, clock: Callable[[], float]
) -> APIRouter:
    """The route of the event stream. `clock` in unix seconds."""
    routes = APIRouter(tags=["candles"])

    @routes.get(
        "/stream",
        response_class=Response,
        responses={**_EVENTS, **documented(404, 422, 503)},
        dependencies=[Depends(once("lastEventId"))],
    )
    async def stream(
        request: Request,
        symbol: SymbolsParameter = None,
        timeframe: TimeframesParameter = None,
        last_event_id: Annotated[
            str, Header(max_length=_MAX_ID, description="The id of the last event received, to resume after it")
        ] = "",
        last_event_id_of_query: Annotated[
            str,
            Query(alias="lastEventId", max_length=_MAX_ID, description="The same, for clients that cannot set headers"),
        ] = "",
    ) -> Response:
        """Candles as server-sent events: first the newest closed and the forming candle of each series, then live ones.

        A slow reader gets only the newest state of a forming candle. A reader that reads nothing, or is too many closed
        candles behind, is disconnected. Every event has an id; a reader that resumes from it gets the closed candles
        that it missed.
        """
        for name in sorted(symbol or ()):
            await symbols.must_know(name)
        subscription = streams.subscribe(symbol, timeframe or frozenset(TIMEFRAMES), address_of(request.scope))
        try:
            given = last_event_id or last_event_id_of_query
            events = await beginning(live, cache, subscription, given, clock())
        except BaseException:
            streams.release(subscription)
            raise
        return EventStream(streams, subscription, events)

    return routes
