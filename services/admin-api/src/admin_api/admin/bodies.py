"""The response bodies of the endpoints of `admin`."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from admin_api.http.responses import Body


class CheckBody(Body, frozen=True):
    """A check and its result."""

    name: Annotated[str, Meta(examples=["broker"])]
    ok: bool
    detail: Annotated[str, Meta(description="For people", examples=["connected"])]


class ProcessHealth(Body, frozen=True):
    """The health of this process alone."""

    live: Annotated[bool, Meta(description="The process works")]
    ready: Annotated[bool, Meta(description="It can do its work now: broker and store answer")]
    checks: list[CheckBody]


class SystemHealth(Body, frozen=True):
    """The health of the system: the checks, and further fields with the state that they examine."""

    status: Literal["ok", "failing"]
    warnings: Annotated[
        list[str],
        Meta(
            description="Settings that are unsafe in production; they do not change the status",
            examples=[
                ["ADMIN_TOKEN of admin-api is the published secret of the repository; set one of your own (make env)"]
            ],
        ),
    ]
    checks: list[CheckBody]


class Resource(Body, frozen=True):
    """Something in the store: a bucket, a table, a task, a token."""

    kind: Annotated[str, Meta(examples=["bucket"])]
    name: Annotated[str, Meta(examples=["candles_1m"])]
    properties: Annotated[dict[str, Any], Meta(examples=[{"retention": "90d"}])]


class DifferenceBody(Body, frozen=True):
    """A resource of the store that is missing, or differs from what is expected."""

    kind: Annotated[str, Meta(examples=["task"])]
    name: Annotated[str, Meta(examples=["downsample_5m"])]
    state: Annotated[str, Meta(examples=["missing"])]
    expected: dict[str, Any] | None
    found: dict[str, Any] | None


class Bootstrap(Body, frozen=True, rename={"is_": "is"}):
    """The store's resources: found, expected, and the difference."""

    store: Annotated[str, Meta(description="Its location", examples=["influxdb://influxdb:8086"])]
    complete: Annotated[bool, Meta(description="Whether every expected resource exists as expected")]
    is_: Annotated[list[Resource], Meta(description="The resources that exist")]
    should_be: list[Resource]
    difference: list[DifferenceBody]


class Bootstrapped(Bootstrap, frozen=True, rename={"is_": "is"}):
    """The store's resources after the bootstrap."""

    changes: Annotated[list[str], Meta(description="The changes made", examples=[["created bucket candles_1m"]])]


class DeadLetterBody(Body, frozen=True):
    """A message that a service could not use."""

    id: Annotated[str, Meta(examples=["8c6976e5b5410415bde9"])]
    service: Annotated[str, Meta(description="The service that could not use it", examples=["influx-writer"])]
    topic: Annotated[str, Meta(description="The topic of the message", examples=["ingress/raw/kraken/BTC-USD/1m"])]
    payload: Annotated[str, Meta(examples=['{"symbol":"BTC/USD"}'])]
    reason: Annotated[str, Meta(examples=["expected a Candle as JSON: Object missing required field `timeframe`"])]
    at: Annotated[str, Meta(examples=["2024-02-25T02:25:00Z"])]
    truncated: Annotated[bool, Meta(description="Whether the payload was cut, so that it cannot be resent")]


class DeadLettersBody(Body, frozen=True):
    """Dead letters, newest first."""

    dead_letters: list[DeadLetterBody]
    total: Annotated[int, Meta(description="Number of all dead letters, also beyond `limit`", ge=0, examples=[1])]


class Resent(Body, frozen=True):
    """The dead letter whose message was republished; it is no longer kept."""

    resent: DeadLetterBody


class Dropped(Body, frozen=True):
    """The dead letter that was dropped."""

    dropped: DeadLetterBody


BODIES = (ProcessHealth, SystemHealth, Bootstrap, Bootstrapped, DeadLettersBody, Resent, Dropped)
"""The types whose schemas the OpenAPI document contains."""
