"""The response bodies of the endpoints of `reconciler`."""

from typing import Annotated

from msgspec import Meta

from admin_api.http.responses import Body


class GapBody(Body, frozen=True, rename={"from_": "from"}):
    """Consecutive closed candles that are missing in the store, or incomplete there."""

    symbol: Annotated[str, Meta(examples=["BTC/USD"])]
    timeframe: Annotated[str, Meta(examples=["1m"])]
    from_: Annotated[str, Meta(description="Open time of the first one", examples=["2024-02-25T02:15:00Z"])]
    to: Annotated[str, Meta(description="Close time of the last one", examples=["2024-02-25T02:20:00Z"])]
    windows: Annotated[int, Meta(description="Number of candles", ge=1, examples=[5])]
    filled: Annotated[int, Meta(description="Number of them that the store has now", ge=0, examples=[0])]
    state: Annotated[str, Meta(description="waiting, requested or unfillable", examples=["requested"])]
    incomplete: Annotated[bool, Meta(description="Whether the store has them, but not complete")]
    source: Annotated[str, Meta(description="store (audit), aggregator or request", examples=["store"])]
    found_at: Annotated[str, Meta(examples=["2024-02-25T02:25:00Z"])]
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
    last_at: Annotated[str | None, Meta(examples=["2024-02-25T02:25:00Z"])]
    trouble: Annotated[str | None, Meta(description="Reason of the last audit's failure; null if it succeeded")]


class GapsBody(Body, frozen=True):
    """The gaps in the store, and the progress of their repair."""

    gaps: list[GapBody]
    total: GapTotal
    filled_since_start: Annotated[int, Meta(description="Number of missing candles that were filled", ge=0)]
    requests_waiting: Annotated[int, Meta(description="Number of ranges requested by hand and not sent yet", ge=0)]
    audit: AuditBody


class PlannedBody(Body, frozen=True, rename={"from_": "from"}):
    """A range that will be requested from Kraken."""

    symbol: Annotated[str, Meta(examples=["BTC/USD"])]
    timeframe: Annotated[str, Meta(examples=["1m"])]
    from_: Annotated[str, Meta(examples=["2024-02-25T00:00:00Z"])]
    to: Annotated[str, Meta(examples=["2024-02-26T00:00:00Z"])]


class RepairBody(Body, frozen=True):
    """The start of a repair: an audit, and the planned requests."""

    audit: Annotated[str, Meta(examples=["starts now"])]
    planned: list[PlannedBody]


BODIES = (GapsBody, RepairBody)
"""The types whose schemas the OpenAPI document contains."""
