"""What the endpoints of `admin` answer."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from admin_api.http.responses import Body


class CheckBody(Body, frozen=True):
    """One thing that is looked at."""

    name: Annotated[str, Meta(examples=["broker"])]
    ok: bool
    detail: Annotated[str, Meta(description="For people", examples=["connected"])]


class ProcessHealth(Body, frozen=True):
    """The health of this process alone."""

    live: Annotated[bool, Meta(description="The process works")]
    ready: Annotated[bool, Meta(description="It can do its work now: broker and store answer")]
    checks: list[CheckBody]


class SystemHealth(Body, frozen=True):
    """The health of everything: the checks, and beside these fields all that they were made of."""

    status: Literal["ok", "failing"]
    warnings: Annotated[
        list[str],
        Meta(
            description="What is not as it should be in production, and makes nothing red",
            examples=[["ADMIN_TOKEN is the secret that stands in the repository; set one of your own (make env)"]],
        ),
    ]
    checks: list[CheckBody]


class Resource(Body, frozen=True):
    """Something in the store: a bucket, a table, a task, a token."""

    kind: Annotated[str, Meta(examples=["bucket"])]
    name: Annotated[str, Meta(examples=["candles_1m"])]
    properties: Annotated[dict[str, Any], Meta(examples=[{"retention": "90d"}])]


class DifferenceBody(Body, frozen=True):
    """Something in the store that is missing, or other than it should be."""

    kind: Annotated[str, Meta(examples=["task"])]
    name: Annotated[str, Meta(examples=["downsample_5m"])]
    state: Annotated[str, Meta(examples=["missing"])]
    expected: dict[str, Any] | None
    found: dict[str, Any] | None


class Bootstrap(Body, frozen=True, rename={"is_": "is"}):
    """What is in the store, what should be, and the difference."""

    store: Annotated[str, Meta(description="Where it is", examples=["influxdb://influxdb:8086"])]
    complete: Annotated[bool, Meta(description="Whether everything is as it should be")]
    is_: Annotated[list[Resource], Meta(description="What is there")]
    should_be: list[Resource]
    difference: list[DifferenceBody]


class Bootstrapped(Bootstrap, frozen=True, rename={"is_": "is"}):
    """The same after it was set up."""

    changes: Annotated[list[str], Meta(description="What was done", examples=[["created bucket candles_1m"]])]


class LetterBody(Body, frozen=True):
    """A message that a service could not use."""

    id: Annotated[str, Meta(examples=["8c6976e5b5410415bde9"])]
    service: Annotated[str, Meta(description="Which service could not use it", examples=["influx-writer"])]
    topic: Annotated[str, Meta(description="The topic it came on", examples=["ingress/raw/kraken/BTC-USD/1m"])]
    payload: Annotated[str, Meta(examples=['{"symbol":"BTC/USD"}'])]
    reason: Annotated[str, Meta(examples=["expected a Candle as JSON: Object missing required field `timeframe`"])]
    at: Annotated[str, Meta(examples=["2024-02-25T02:25:00Z"])]
    truncated: Annotated[bool, Meta(description="Whether only a part of it was kept, so that it cannot be re-sent")]


class LettersBody(Body, frozen=True):
    """Dead letters, newest first."""

    dead_letters: list[LetterBody]
    total: Annotated[int, Meta(description="Number of dead letters, also beyond `limit`", ge=0, examples=[1])]


class Resent(Body, frozen=True):
    """The dead letter whose message was published again, and that is no longer kept."""

    resent: LetterBody


class Dropped(Body, frozen=True):
    """The dead letter that is no longer kept."""

    dropped: LetterBody


BODIES = (ProcessHealth, SystemHealth, Bootstrap, Bootstrapped, LettersBody, Resent, Dropped)
"""What the API's description needs the schemas of."""
