"""`GET /gaps` and `POST /repair`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.exceptions import HTTPException

from admin_api.http.authorization import authorized_by
from admin_api.http.context import Context
from admin_api.http.models import Gaps, RepairPlan
from admin_api.http.parameters import instant_of, timeframe_of
from admin_api.http.problems import documented
from admin_api.maintenance.planning import DAY, Ask
from admin_api.maintenance.repair import TooManyRequestsError
from ingress_common.model import Range
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, symbol_of, topic_symbol

LONGEST_DAYS = 31
"""Days of minutes that one request may be about; of longer timeframes as many windows."""

DEFAULT_GAPS = 1_000
MOST_GAPS_LISTED = 10_000

_TIMEFRAME_SCHEMA = {"type": "string", "enum": [timeframe.value for timeframe in TIMEFRAMES]}
_TIME_SCHEMA = {"type": "string", "examples": ["2024-02-25T02:15:00Z"]}


def _symbol(value: object) -> str | None:
    """BTC/USD and BTC-USD alike; an empty one counts as not given."""
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


def _timeframe(value: object) -> Timeframe | None:
    return None if value is None or value == "" else timeframe_of(value)


OptionalSymbol = Annotated[
    str | None, BeforeValidator(_symbol), WithJsonSchema({"type": "string", "examples": ["BTC/USD"]})
]
OptionalTimeframe = Annotated[Timeframe | None, BeforeValidator(_timeframe), WithJsonSchema(_TIMEFRAME_SCHEMA)]
OptionalInstant = Annotated[float | None, BeforeValidator(instant_of), WithJsonSchema(_TIME_SCHEMA)]


class RepairRequest(BaseModel):
    """What to repair: nothing (everything is audited), a symbol, or a range of a symbol."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: OptionalSymbol = None
    timeframe: OptionalTimeframe = None
    start: OptionalInstant = Field(None, alias="from")
    end: OptionalInstant = Field(None, alias="to")


def router(context: Context) -> APIRouter:
    """Routes for gaps and their repair."""
    routes = APIRouter(tags=["repair"])
    authorized = authorized_by(context.admin_token)
    upkeep = context.upkeep

    @routes.get("/gaps", response_model=Gaps, responses=documented(422))
    async def gaps(
        symbol: Annotated[OptionalSymbol, Query(description="Only this symbol, as BTC-USD or BTC/USD")] = None,
        timeframe: Annotated[OptionalTimeframe, Query(description="Only this timeframe")] = None,
        limit: Annotated[int, Query(description="So many of them", ge=1, le=MOST_GAPS_LISTED)] = DEFAULT_GAPS,
    ) -> dict[str, Any]:
        """Closed candles that are missing in the store, or incomplete there, and what is being done about it."""
        found = [
            tracked
            for tracked in upkeep.repairer.gaps
            if symbol in (None, tracked.gap.symbol) and timeframe in (None, tracked.gap.timeframe)
        ]
        windows = sum(tracked.gap.windows for tracked in found)
        return {
            "gaps": [tracked.as_json() for tracked in found[:limit]],
            "total": {
                "gaps": len(found),
                "windows": windows,
                "filled": windows - sum(tracked.missing for tracked in found),
            },
            "filled_since_start": upkeep.repairer.filled,
            "requests_waiting": upkeep.repairer.requested,
            "audit": upkeep.auditor.details(),
        }

    @routes.post(
        "/repair",
        status_code=202,
        response_model=RepairPlan,
        responses=documented(401, 404, 422, 503),
        dependencies=[Depends(authorized)],
    )
    async def repair(wanted: RepairRequest | None = None) -> dict[str, Any]:
        """Audit now and try every gap again; with a range, ask for it even if nothing is missing there.

        A range needs a symbol; its timeframe is 1m if none is given, and it ends now without `to`.
        """
        wanted = wanted or RepairRequest()
        if not context.broker_connected():
            raise HTTPException(503, "the broker is not connected, so nothing can be asked for")
        if not upkeep.live():
            raise HTTPException(503, "no feed is live, so nobody would ask Kraken for what is missing")
        await context.store.ping()
        if wanted.symbol is not None:
            await _known(context, wanted.symbol)
        asks = await _asked(context, wanted)
        upkeep.repairer.hurry(wanted.symbol, wanted.timeframe)
        upkeep.auditor.soon()
        return {"audit": "starts now", "planned": [_ask(ask) for ask in asks]}

    return routes


async def _asked(context: Context, wanted: RepairRequest) -> list[Ask]:
    """What is asked for because of a range."""
    if wanted.start is None and wanted.end is None:
        return []
    if wanted.symbol is None or wanted.start is None:
        raise HTTPException(422, "expected symbol and from with a range; to and timeframe may be left out")
    now = context.clock()
    timeframe = wanted.timeframe or Timeframe.M1
    over = timeframe.floor(now)
    start, end = timeframe.floor(wanted.start), over if wanted.end is None else min(timeframe.ceil(wanted.end), over)
    if start >= end:
        raise HTTPException(422, f"expected from before to, both in the past, got a range from {rfc3339(start)}")
    longest = LONGEST_DAYS * DAY // 60 * timeframe.seconds
    if end - start > longest:
        raise HTTPException(
            422, f"expected at most {longest // DAY} days of {timeframe.value}, got {rfc3339(start)} on"
        )
    kept = context.upkeep.retention.candles[timeframe]
    if kept is not None and start < now - kept:
        raise HTTPException(
            422, f"expected from within the {kept // DAY} days that {timeframe.value} is kept, got {rfc3339(start)}"
        )
    if wanted.symbol not in context.upkeep.live():
        raise HTTPException(503, f"no live feed carries {wanted.symbol}, so nobody would ask Kraken for it")
    try:
        return await context.upkeep.repairer.request(wanted.symbol, timeframe, Range(start, end))
    except TooManyRequestsError as error:
        raise HTTPException(503, str(error)) from None


async def _known(context: Context, symbol: str) -> None:
    if symbol not in context.view.symbols and symbol not in await context.store.symbols():
        raise HTTPException(404, f"unknown symbol: {symbol}; GET /symbols lists what there is")


def _ask(ask: Ask) -> dict[str, Any]:
    return {
        "symbol": ask.symbol,
        "timeframe": ask.timeframe.value,
        "from": rfc3339(ask.start),
        "to": rfc3339(ask.end),
    }
