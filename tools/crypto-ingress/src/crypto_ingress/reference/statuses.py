"""The further fields in the status of each service while it is online."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from ingress_common.service_names import ADMIN_API, AGGREGATOR, GATEWAY, WRITER
from ingress_common.timeframes import Timeframe

_Text = msgspec.Meta


class GatewayStatus(msgspec.Struct, frozen=True):
    """The details of kraken-gateway's status."""

    feeds: Annotated[dict[str, Literal["live", "down"]], _Text(description="State of each feed, by name.")]
    symbols: Annotated[int, _Text(description="Number of symbols on its live feeds.")]
    wanted: Annotated[int, _Text(description="Number of symbols that it owns.")]
    rejected: Annotated[dict[str, str], _Text(description="Symbols that Kraken rejects, with Kraken's error text.")]
    connection_attempts: Annotated[int, _Text(description="Connection attempts to Kraken in the last 10 minutes.")]
    connection_attempts_limit: Annotated[int, _Text(description="Its own limit of attempts in 10 minutes.")]
    owned_since: Annotated[dict[str, str], _Text(description="Start of its ownership of each symbol.")]
    suspect: Annotated[list[str], _Text(description="Symbols without ticks for unusually long.")]
    excluded: Annotated[list[str], _Text(description="Symbols excluded from the coverage until verified.")]
    stale: Annotated[list[str], _Text(description="Symbols that trade although their subscription delivers nothing.")]
    lag_seconds: Annotated[float, _Text(description="Age of the oldest unpublished frame.")]
    overloaded: Annotated[list[str], _Text(description="Feeds that lag too far behind.")]
    recent_starts: Annotated[list[float], _Text(description="Its starts of the last 10 minutes (unix seconds).")]
    patterns: Annotated[list[str], _Text(description="SYMBOLS; empty until the symbols that it matches are known.")]
    unknown_at_rest: Annotated[
        dict[str, str], _Text(description="Live symbols that REST does not know, with the consequence.")
    ]
    untraded: Annotated[list[str], _Text(description="Symbols that have never traded, so that no feed carries them.")]
    kraken_time: Annotated[str, _Text(description="Kraken's time when this was published (RFC 3339).")]
    clock_skew_seconds: Annotated[float, _Text(description="Lead of its clock over Kraken's.")]
    ready: Annotated[bool, _Text(description="Whether it can do its work.")]
    problems: Annotated[list[str], _Text(description="Its failed checks.")]


class GapDetails(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """A gap in the status of an aggregator: the fields of `aggregator.core.engine.UncoveredGap` on the wire."""

    symbol: Annotated[str, _Text(description="The symbol.")]
    timeframe: Annotated[Timeframe, _Text(description="The timeframe of the gap.")]
    start: Annotated[str, _Text(description="Start of the gap.")]
    end: Annotated[str, _Text(description="End of the gap, not part of it.")]
    lost: Annotated[bool, _Text(description="Whether the aggregator gave up on it (`GAP_GIVE_UP_HOURS`).")]


class AggregatorStatus(msgspec.Struct, frozen=True):
    """The details of the aggregator's status."""

    ready: Annotated[bool, _Text(description="Whether all its symbols have their seed.")]
    problems: Annotated[list[str], _Text(description="Its failed checks.")]
    symbols: Annotated[list[str], _Text(description="The symbols that it owns.")]
    owned_since: Annotated[dict[str, str], _Text(description="Start of its ownership of each symbol.")]
    initialized: Annotated[int, _Text(description="Number of symbols with snapshots of all timeframes.")]
    gaps: Annotated[dict[str, int], _Text(description="Seconds in gaps, by symbol.")]
    missing: Annotated[list[GapDetails], _Text(description="The gaps, as many as fit.")]


class WriterStatus(msgspec.Struct, frozen=True):
    """The details of influx-writer's status."""

    ready: Annotated[bool, _Text(description="Whether it can do its work.")]
    problems: Annotated[list[str], _Text(description="Its failed checks.")]
    written: Annotated[int, _Text(description="Number of rows written since its start.")]
    last_commit: Annotated[str | None, _Text(description="Time of its last write; null before the first.")]
    symbols: Annotated[list[str], _Text(description="The symbols that it subscribes to or still has rows of.")]
    missing_candles: Annotated[int, _Text(description="Number of published closed candles that did not arrive.")]
    missing_since: Annotated[str | None, _Text(description="Time since which candles are missing; null if none are.")]
    leaving: Annotated[bool, _Text(description="Whether it is stopping and hands over its symbols.")]
    store: Annotated[str, _Text(description="Where its stack stores candles; another stack needs another prefix.")]


class AdminStatus(msgspec.Struct, frozen=True):
    """The details of admin-api's status."""

    ready: Annotated[bool, _Text(description="Whether it can do its work.")]
    port: Annotated[int, _Text(description="Its HTTP port.")]
    store: Annotated[str, _Text(description="Where its stack stores candles; another stack needs another prefix.")]


STATUSES: Mapping[str, type[msgspec.Struct]] = {
    GATEWAY: GatewayStatus,
    AGGREGATOR: AggregatorStatus,
    WRITER: WriterStatus,
    ADMIN_API: AdminStatus,
}
"""The details in the status of each service."""
