"""`GET /symbols` and `GET /candles/{symbol}`."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from admin_api.context import Context
from admin_api.health import carried_symbols
from admin_api.parameters import DEFAULT_LIMIT, FromParameter, LimitParameter, TimeframeParameter, ToParameter
from admin_api.problems import documented
from ingress_common.model import Candle
from ingress_common.payloads import encode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, symbol_of
from ingress_store import Freshness


def router(context: Context) -> APIRouter:
    """Routes for reading candles."""
    routes = APIRouter(tags=["candles"])

    @routes.get("/symbols", responses=documented(503))
    async def symbols() -> dict[str, Any]:
        """Every symbol that the store or the bus knows, its timeframes, and how fresh it is."""
        series: dict[str, list[Freshness]] = {symbol: [] for symbol in await context.store.symbols()}
        for freshness in await context.store.latest():
            series.setdefault(freshness.symbol, []).append(freshness)
        for symbol in context.view.symbols:
            series.setdefault(symbol, [])
        now = context.clock()
        carried = carried_symbols(context.view, now)
        return {"symbols": [_symbol(symbol, series[symbol], symbol in carried, now) for symbol in sorted(series)]}

    @routes.get(
        "/candles/{symbol}",
        response_class=Response,
        responses={200: {"content": {"application/json": {}}}, **documented(404, 422, 503)},
    )
    async def candles(
        symbol: Annotated[str, Path(description="BTC-USD for BTC/USD", examples=["BTC-USD"])],
        timeframe: TimeframeParameter = Timeframe.M1,
        start: FromParameter = None,
        end: ToParameter = None,
        limit: LimitParameter = DEFAULT_LIMIT,
    ) -> Response:
        """Candles as on the bus, oldest first: closed ones, and the forming one last if it is in the range."""
        if start is not None and end is not None and start > end:
            raise HTTPException(422, f"expected from to be no later than to, got {rfc3339(start)} and {rfc3339(end)}")
        try:
            name = symbol_of(symbol)
        except TopicError as error:
            raise HTTPException(404, f"unknown symbol: {error}") from None
        rows = await _candles(context, name, timeframe, start, end, limit)
        if not rows and name not in context.view.symbols and name not in await context.store.symbols():
            raise HTTPException(404, f"unknown symbol: {name}; GET /symbols lists what there is")
        return Response(_body(name, timeframe, rows), media_type="application/json")

    return routes


async def _candles(
    context: Context, symbol: str, timeframe: Timeframe, start: float | None, end: float | None, limit: int
) -> list[Candle]:
    forming = await context.store.forming(symbol, timeframe)
    rows = await context.store.newest_candles(symbol, timeframe, start=start, end=end, limit=limit)
    if forming is None or (start is not None and forming.open_time < start):
        return rows
    if end is not None and forming.open_time >= end:
        return rows
    if rows and rows[-1].open_time >= forming.open_time:
        # It was closed between the two questions.
        return rows
    return [*rows, forming][-limit:]


def _body(symbol: str, timeframe: Timeframe, rows: list[Candle]) -> bytes:
    """Put together by hand, so that each candle has the bytes that it has on the bus, exact decimals included."""
    head = f'{{"symbol":"{symbol}","timeframe":"{timeframe.value}","candles":['
    return head.encode() + b",".join(map(encode_candle, rows)) + b"]}"


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
