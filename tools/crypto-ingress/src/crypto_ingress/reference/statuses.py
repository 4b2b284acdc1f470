"""What the status of each service tells besides who it is: the further fields of its payload while it is online."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from ingress_common.timeframes import Timeframe

_Text = msgspec.Meta


class Gateway(msgspec.Struct, frozen=True):
    """kraken-gateway."""

    feeds: Annotated[dict[str, Literal["live", "down"]], _Text(description="State of each of its feeds, by name.")]
    symbols: Annotated[int, _Text(description="How many symbols its live feeds carry.")]
    wanted: Annotated[int, _Text(description="How many symbols are its to carry.")]
    rejected: Annotated[dict[str, str], _Text(description="Symbols that Kraken refuses, with its reason.")]
    connection_attempts: Annotated[int, _Text(description="Connections to Kraken tried in the last 10 minutes.")]
    connection_attempts_limit: Annotated[int, _Text(description="How many it allows itself in that time.")]
    owned_since: Annotated[dict[str, str], _Text(description="Since when each symbol is its to carry.")]
    doubted: Annotated[list[str], _Text(description="Symbols that are quieter than usual and are being checked.")]
    withheld: Annotated[list[str], _Text(description="Symbols that are left out of its claims until they are checked.")]
    blind: Annotated[list[str], _Text(description="Symbols that trade, as REST tells, while nothing of them comes.")]
    clock_skew_seconds: Annotated[float, _Text(description="How far its clock is ahead of Kraken's.")]
    ready: Annotated[bool, _Text(description="Whether it can work.")]


class Missing(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """A span that an aggregator misses."""

    symbol: Annotated[str, _Text(description="The symbol.")]
    timeframe: Annotated[Timeframe, _Text(description="The timeframe that the span was found in.")]
    start: Annotated[str, _Text(description="Where the span begins.")]
    end: Annotated[str, _Text(description="Where the span ends; not part of it.")]
    lost: Annotated[bool, _Text(description="Whether it was given up on (`GAP_GIVE_UP_HOURS`).")]


class Aggregator(msgspec.Struct, frozen=True):
    """aggregator."""

    symbols: Annotated[list[str], _Text(description="The symbols whose candles it makes.")]
    owned_since: Annotated[dict[str, str], _Text(description="Since when it has each symbol.")]
    initialized: Annotated[int, _Text(description="For how many of them it has the snapshots of all timeframes.")]
    gaps: Annotated[dict[str, int], _Text(description="Seconds that are missing, by symbol.")]
    missing: Annotated[list[Missing], _Text(description="The spans that are missing, as many as fit.")]


class Writer(msgspec.Struct, frozen=True):
    """influx-writer."""

    ready: Annotated[bool, _Text(description="Whether it can work.")]
    problems: Annotated[list[str], _Text(description="What keeps it from working.")]
    written: Annotated[int, _Text(description="Rows written since its start.")]
    last_commit: Annotated[str | None, _Text(description="When it last wrote; null before.")]
    leaving: Annotated[bool, _Text(description="Whether it is on its way out and no longer to be counted on.")]


class Admin(msgspec.Struct, frozen=True):
    """admin-api."""

    ready: Annotated[bool, _Text(description="Whether it can work.")]
    port: Annotated[int, _Text(description="The port on which it serves HTTP.")]


STATUSES: Mapping[str, type[msgspec.Struct]] = {
    "kraken-gateway": Gateway,
    "aggregator": Aggregator,
    "influx-writer": Writer,
    "admin-api": Admin,
}
"""The details of each service's status."""
