"""`GET /gaps` and `POST /repair`."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.exceptions import HTTPException

from admin_api.http.parameters import TIME_SCHEMA, TIMEFRAME_NAMES, instant_of, timeframe_of
from admin_api.http.problems import documented
from admin_api.http.responses import described, json_response
from admin_api.reconciler.audit import Auditor
from admin_api.reconciler.bodies import GapsBody, GapTotal, PlannedBody, RepairBody
from admin_api.reconciler.context import Context
from admin_api.reconciler.planning import DAY, Planned
from admin_api.reconciler.repair import Repairer, RepairQueueFullError
from ingress_common.model import Range
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, symbol_of, topic_symbol
from ingress_store import Retention

LONGEST_DAYS = 31
"""Maximum range of one request: days of minutes, or as many windows of a longer timeframe."""

_DEFAULT_GAPS, _MOST_GAPS = 1_000, 10_000


def _symbol(value: object) -> str | None:
    """The symbol of `BTC/USD` or `BTC-USD`; None if it is empty."""
    if value is None or value == "":
        return None
    text = str(value)
    try:
        if "/" in text:
            topic_symbol(text)
            return text
        return symbol_of(text)
    except TopicError as error:
        raise ValueError(str(error)) from None


OptionalSymbol = Annotated[
    str | None, BeforeValidator(_symbol), WithJsonSchema({"type": "string", "examples": ["BTC/USD"]})
]
OptionalTimeframe = Annotated[
    Timeframe | None, BeforeValidator(timeframe_of), WithJsonSchema({"type": "string", "enum": TIMEFRAME_NAMES})
]
OptionalInstant = Annotated[float | None, BeforeValidator(instant_of), WithJsonSchema(TIME_SCHEMA)]


class RepairRequest(BaseModel):
    """The scope of a repair: empty (audit everything), a symbol, or a range of a symbol."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: OptionalSymbol = None
    timeframe: OptionalTimeframe = None
    start: OptionalInstant = Field(None, alias="from")
    end: OptionalInstant = Field(None, alias="to")


class RepairRequests:
    """Starts repairs on request."""

    def __init__(self, context: Context, repairer: Repairer, auditor: Auditor, retention: Retention) -> None:
        self._context = context
        self._repairer = repairer
        self._auditor = auditor
        self._retention = retention

    async def take(self, wanted: RepairRequest) -> list[Planned]:
        """Start a repair; returns the planned requests. HTTPException (422, 503), StoreUnavailableError."""
        live = self._context.live()
        if not self._context.bus.connected:
            raise HTTPException(503, "the broker is not connected, so nothing can be requested")
        if not live:
            raise HTTPException(503, "no feed is live, so no gateway would request missing candles from Kraken")
        await self._context.store.ping()
        if wanted.symbol is not None:
            await self._must_know(wanted.symbol)
        planned: list[Planned] = []
        if wanted.start is not None or wanted.end is not None:
            symbol, timeframe, span = self._range(wanted)
            if symbol not in live:
                raise HTTPException(503, f"no live feed carries {symbol}, so no gateway would request it from Kraken")
            try:
                planned = await self._repairer.request(symbol, timeframe, span)
            except RepairQueueFullError as error:
                raise HTTPException(503, str(error)) from None
        self._repairer.retry_now(wanted.symbol, wanted.timeframe)
        self._auditor.schedule()
        return planned

    def _range(self, wanted: RepairRequest) -> tuple[str, Timeframe, Range]:
        """Symbol, timeframe and whole windows of a range; a 422 names the fault."""
        if wanted.symbol is None or wanted.start is None:
            raise HTTPException(422, "expected `symbol` and `from` with a range; `to` and `timeframe` are optional")
        now = self._context.clock()
        timeframe = wanted.timeframe or Timeframe.M1
        start, end = timeframe.floor(wanted.start), timeframe.floor(now)
        if wanted.end is not None:
            end = min(timeframe.ceil(wanted.end), end)
        if start >= end:
            raise HTTPException(
                422, f"expected `from` earlier than `to`, both in the past, got a range from {rfc3339(start)}"
            )
        longest = LONGEST_DAYS * DAY // 60 * timeframe.seconds
        if end - start > longest:
            raise HTTPException(
                422, f"expected at most {longest // DAY} days of {timeframe.value}, got {rfc3339(start)} on"
            )
        kept = self._retention.candles[timeframe]
        if kept is not None and start < now - kept:
            raise HTTPException(
                422, f"expected from within the {kept // DAY} days that {timeframe.value} is kept, got {rfc3339(start)}"
            )
        return wanted.symbol, timeframe, Range(start, end)

    async def _must_know(self, symbol: str) -> None:
        if symbol not in self._context.state.symbols and symbol not in await self._context.store.symbols():
            raise HTTPException(404, f"unknown symbol: {symbol}; GET /symbols lists the known ones")


def router(repairer: Repairer, auditor: Auditor, requests: RepairRequests, authorized: Callable[..., Any]) -> APIRouter:
    """Routes of gaps and their repair."""
    routes = APIRouter(tags=["repair"], default_response_class=Response)

    @routes.get("/gaps", responses={200: described(GapsBody), **documented(422)})
    async def gaps(
        symbol: Annotated[OptionalSymbol, Query(description="Only this symbol, as BTC-USD or BTC/USD")] = None,
        timeframe: Annotated[OptionalTimeframe, Query(description="Only this timeframe")] = None,
        limit: Annotated[int, Query(description="Maximum number of gaps", ge=1, le=_MOST_GAPS)] = _DEFAULT_GAPS,
    ) -> Response:
        """Closed candles that are missing in the store, or incomplete there, and the progress of their repair."""
        found = [
            tracked
            for tracked in repairer.gaps
            if symbol in (None, tracked.gap.symbol) and timeframe in (None, tracked.gap.timeframe)
        ]
        windows = sum(tracked.gap.windows for tracked in found)
        filled = windows - sum(tracked.missing for tracked in found)
        return json_response(
            GapsBody(
                gaps=[tracked.body() for tracked in found[:limit]],
                total=GapTotal(len(found), windows, filled),
                filled_since_start=repairer.filled,
                requests_waiting=repairer.requested,
                audit=auditor.body(),
            )
        )

    @routes.post(
        "/repair",
        status_code=202,
        responses={202: described(RepairBody), **documented(401, 404, 422, 503)},
        dependencies=[Depends(authorized)],
    )
    async def repair(wanted: RepairRequest | None = None) -> Response:
        """Audit now and retry every gap; with a range, request it even if nothing is missing there.

        A range needs `symbol` and `from`; `timeframe` defaults to 1m, and `to` to now.
        """
        planned = await requests.take(wanted or RepairRequest())
        bodies = [PlannedBody(one.symbol, one.timeframe.value, rfc3339(one.start), rfc3339(one.end)) for one in planned]
        return json_response(RepairBody("starts now", bodies), 202)

    return routes
