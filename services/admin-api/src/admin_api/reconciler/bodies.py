"""The response bodies of the endpoints of `reconciler`."""

from typing import Annotated

from msgspec import Meta

from admin_api.http.responses import Body, SymbolName, Time, TimeframeName


class GapBody(Body, frozen=True, rename={"from_": "from"}):
    """Consecutive closed candles that are missing in the store, or incomplete there."""

    symbol: SymbolName
    timeframe: TimeframeName
    from_: Annotated[str, Meta(description="Open time of the first one", examples=["2024-02-25T02:15:00Z"])]
    to: Annotated[str, Meta(description="Close time of the last one", examples=["2024-02-25T02:20:00Z"])]
    windows: Annotated[int, Meta(description="Number of candles", ge=1, examples=[5])]
    filled: Annotated[int, Meta(description="Number of them that the store has now", ge=0, examples=[0])]
    state: Annotated[str, Meta(description="waiting, requested or unfillable", examples=["requested"])]
    incomplete: Annotated[bool, Meta(description="Whether the store has these candles, but incomplete ones")]
    source: Annotated[str, Meta(description="store (audit), aggregator or request", examples=["store"])]
    found_at: Time
    attempts: Annotated[int, Meta(description="Number of requests in a row that brought nothing", ge=0, examples=[1])]
    requested_at: Annotated[str | None, Meta(description="Time of the last request", examples=["2024-02-25T02:25:01Z"])]
    next_at: Annotated[str | None, Meta(description="Time of the next request; null while one is under way")]


class GapTotal(Body, frozen=True):
    """Totals of all gaps that match, including those beyond `limit`."""

    gaps: Annotated[int, Meta(ge=0, examples=[1])]
    windows: Annotated[int, Meta(ge=0, examples=[5])]
    filled: Annotated[int, Meta(ge=0, examples=[0])]


class AuditBody(Body, frozen=True):
    """The audit, which searches the store for gaps."""

    every_seconds: Annotated[float, Meta(examples=[300])]
    horizon_seconds: Annotated[float, Meta(description="How far back an audit goes", examples=[604800])]
    last_at: Time | None
    trouble: Annotated[str | None, Meta(description="Reason of the last audit's failure; null if it succeeded")]


class GapsBody(Body, frozen=True):
    """The gaps in the store, and the progress of their repair."""

    gaps: list[GapBody]
    total: GapTotal
    filled_since_start: Annotated[int, Meta(description="Number of missing candles that were filled", ge=0)]
    requests_waiting: Annotated[int, Meta(description="Number of ranges requested by hand and not sent yet", ge=0)]
    audit: AuditBody


class StoredBody(Body, frozen=True):
    """How far the store has the newest closed candles of the bus."""

    series: Annotated[int, Meta(description="Number of series whose newest candle is stored")]
    waiting: Annotated[int, Meta(description="Number of series whose newest candle is not stored yet")]


class GapCounts(Body, frozen=True):
    """The number of gaps by state; `GET /gaps` lists them."""

    waiting: int
    requested: int
    unfillable: int
    windows_missing: Annotated[int, Meta(description="Number of missing candles in all gaps")]
    filled_since_start: Annotated[int, Meta(description="Number of missing candles that were filled")]
    unfillable_gaps: Annotated[list[str], Meta(description="For people; a long list is cut")]


class MinuteDifference(Body, frozen=True):
    """A stored minute that differed from Kraken's."""

    symbol: SymbolName
    open_time: Time
    kind: Annotated[str, Meta(description="missing, different or invented", examples=["different"])]
    what: Annotated[str, Meta(examples=["expected trades 17, got 16"])]
    at: Time
    ended: Annotated[str | None, Meta(description="repaired or taken-back; null while it is open")]
    ended_at: Time | None


class SelfCheckBody(Body, frozen=True):
    """The self-check, which compares stored minutes with Kraken's."""

    every_seconds: float
    checks: int
    candles: Annotated[int, Meta(description="Number of candles compared")]
    unanswered: Annotated[int, Meta(description="Number of checks without a response from Kraken")]
    last_at: Time | None
    open: Annotated[int, Meta(description="Number of differences that are not repaired")]
    differences: Annotated[list[MinuteDifference], Meta(description="Newest first; a long list is cut")]


class RepairHealth(Body, frozen=True):
    """The fields of `GET /health` about the store's repair."""

    stored: StoredBody
    audit: AuditBody
    gaps: GapCounts
    self_check: SelfCheckBody


class PlannedBody(Body, frozen=True, rename={"from_": "from"}):
    """A range that will be requested from Kraken."""

    symbol: SymbolName
    timeframe: TimeframeName
    from_: Annotated[str, Meta(examples=["2024-02-25T00:00:00Z"])]
    to: Annotated[str, Meta(examples=["2024-02-26T00:00:00Z"])]


class RepairBody(Body, frozen=True):
    """The start of a repair: an audit, and the planned requests."""

    audit: Annotated[str, Meta(examples=["starts now"])]
    planned: list[PlannedBody]


BODIES = (GapsBody, RepairBody, RepairHealth)
"""The types whose schemas the OpenAPI document contains."""
