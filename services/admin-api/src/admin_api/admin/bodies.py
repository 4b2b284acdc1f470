"""The response bodies of the endpoints of `admin`."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from admin_api.http.responses import Body, SymbolName, Time
from ingress_common.health import Check, Health


class InstanceBody(Body, frozen=True):
    """An instance of a service, by its last status."""

    service: Annotated[str, Meta(examples=["aggregator"])]
    instance: Annotated[str, Meta(examples=["aggregator-1"])]
    state: Annotated[str, Meta(description="As reported: online or offline", examples=["online"])]
    online: Annotated[bool, Meta(description="Whether its last status is online and less than 12.5 s old")]
    seen_seconds_ago: float
    version: str
    started_at: Time
    details: Annotated[dict[str, Any], Meta(description="Fields that differ by service")]


class FeedBody(Body, frozen=True):
    """A live connection to Kraken."""

    feed: str
    state: Annotated[str, Meta(description="live or down", examples=["live"])]
    fresh: Annotated[bool, Meta(description="Whether it is live and its watermark is recent")]
    since: Time
    watermark_age_seconds: float | None
    symbols: Annotated[int, Meta(description="Number of symbols that it carries")]
    rejected: Annotated[dict[str, str], Meta(description="Symbols that Kraken rejects, with its reason")]


class SymbolHealth(Body, frozen=True):
    """The freshness of a symbol on the bus."""

    symbol: SymbolName
    live: Annotated[bool, Meta(description="Whether a live feed carries it")]
    wanted: Annotated[bool, Meta(description="Whether it should have candles")]
    closed_until: Annotated[Time | None, Meta(description="The end of the newest closed minute")]
    at: Annotated[Time, Meta(description="Time of the message that led to the newest minute")]
    age_seconds: Annotated[float, Meta(description="Seconds since `at`")]


class DeadLetterCountBody(Body, frozen=True):
    """The number of a service's dead letters since the start, and the last one."""

    service: Annotated[str, Meta(examples=["influx-writer"])]
    count: int
    topic: str
    reason: str
    at: Time


class TaskBody(Body, frozen=True):
    """A task that runs inside the store."""

    task: Annotated[str, Meta(examples=["downsample_5m"])]
    every_seconds: int
    last_run: Time | None
    trouble: Annotated[str | None, Meta(description="Its problem; null if it works")]


class OwnershipBody(Body, frozen=True):
    """The owners of a symbol, and since when. There should be one of each; `also` names further ones."""

    symbol: SymbolName
    gateway: str | None
    gateway_since: Time | None
    feed: str | None
    feed_since: Time | None
    aggregator: str | None
    aggregator_since: Time | None
    also: list[str]


class OwnershipProblems(Body, frozen=True):
    """The symbols that do not have one feed and one aggregator."""

    without_aggregator: list[SymbolName]
    without_feed: list[SymbolName]
    several_aggregators: list[SymbolName]
    several_feeds: list[SymbolName]


class SystemHealth(Body, frozen=True):
    """The health of the system: the checks, and the state that they examine."""

    status: Literal["ok", "failing"]
    checks: tuple[Check, ...]
    warnings: Annotated[
        list[str],
        Meta(
            description="Settings that are unsafe in production; they do not change the status",
            examples=[
                ["ADMIN_TOKEN of admin-api is the published secret of the repository; set one of your own (make env)"]
            ],
        ),
    ]
    at: Time
    instances: list[InstanceBody]
    feeds: list[FeedBody]
    symbols: list[SymbolHealth]
    dead_letters: list[DeadLetterCountBody]
    tasks: list[TaskBody]
    ownership: list[OwnershipBody]
    ownership_trouble: OwnershipProblems


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
    """A message that a service rejected."""

    id: Annotated[str, Meta(examples=["8c6976e5b5410415bde9"])]
    service: Annotated[str, Meta(description="The service that rejected it", examples=["influx-writer"])]
    topic: Annotated[str, Meta(description="The topic of the message", examples=["ingress/raw/kraken/BTC-USD/1m"])]
    payload: Annotated[str, Meta(examples=['{"symbol":"BTC/USD"}'])]
    reason: Annotated[str, Meta(examples=["expected a Candle as JSON: Object missing required field `timeframe`"])]
    at: Time
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


BODIES = (Health, SystemHealth, Bootstrap, Bootstrapped, DeadLettersBody, Resent, Dropped)
"""The types whose schemas the OpenAPI document contains."""
