"""`GET /stream`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from admin_api.http import models
from admin_api.http.context import Context
from admin_api.http.parameters import SymbolsParameter, TimeframesParameter, once
from admin_api.http.problems import documented
from admin_api.reading.resume import beginning
from admin_api.reading.stream import EventStream, TooManyStreamsError
from ingress_common.timeframes import TIMEFRAMES

_MAX_ID = 64
_RETRY_SECONDS = "5"

_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events without end: `candle` (data: the candle as on the bus), `reset` (something may have "
        "been missed: read anew), `error` (data: reason; the stream ends), and comments as heartbeat",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": models.EVENT_EXAMPLE}},
    }
}


def router(context: Context) -> APIRouter:
    """The route of the events."""
    routes = APIRouter(tags=["candles"])

    @routes.get(
        "/stream",
        response_class=Response,
        responses={**_EVENTS, **documented(404, 422, 503)},
        dependencies=[Depends(once("lastEventId"))],
    )
    async def stream(
        symbol: SymbolsParameter = None,
        timeframe: TimeframesParameter = frozenset(TIMEFRAMES),
        last_event_id: Annotated[
            str, Header(max_length=_MAX_ID, description="Where to go on: the id of the last event that was received")
        ] = "",
        last_event_id_of_query: Annotated[
            str, Query(alias="lastEventId", max_length=_MAX_ID, description="The same, for who cannot set the header")
        ] = "",
    ) -> Response:
        """Candles as server-sent events: first the newest closed and the forming candle of each series, then live.

        Of a forming candle only the newest is sent. A reader for whom too many closed candles wait is dropped. Every
        event has an id; who comes back with it gets the closed candles that came meanwhile.
        """
        for name in sorted(symbol or ()):
            await context.must_know(name)
        try:
            subscription = context.streams.subscribe(symbol, timeframe)
        except TooManyStreamsError as error:
            raise HTTPException(503, str(error), headers={"Retry-After": _RETRY_SECONDS}) from None
        try:
            given = last_event_id or last_event_id_of_query
            events = await beginning(context.live, context.recent, subscription, given, context.clock())
        except BaseException:
            context.streams.release(subscription)
            raise
        return EventStream(context.streams, subscription, events)

    return routes
