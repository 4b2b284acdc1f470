"""Rows in shards whose memory InfluxDB may free, which it can lose after it has acknowledged them (decision 45)."""

from collections.abc import Iterable, Mapping

from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store.influx.versions import Identity, StoredVersion
from ingress_store.retention import DAY, HOUR, Retention

CONFIRM_SECONDS = 0.5
"""Seconds after a write in which a query may still show a row that is then lost."""

_IN_MEMORY_SECONDS = 300.0
"""How long after a write its shard is certainly not empty in memory: InfluxDB moves it to a file after 10 minutes."""

_NEVER = float("-inf")
_FAR_WINDOWS = 200
"""Rows with more windows between them are read back by two queries: one would read all rows between them."""


class NewShards:
    """The spans of time in which this process has recently written, by timeframe. The first row of each is read back.

    A span is a day, or an hour if candles are kept for less than a day; no shard is shorter. The first row of a new
    shard is therefore the first row of a span. A shard loses all rows of a request together, so one row is read back
    for all.
    """

    def __init__(self, retention: Retention) -> None:
        kept = retention.candles
        self._spans = {timeframe: HOUR if (kept[timeframe] or DAY) < DAY else DAY for timeframe in TIMEFRAMES}
        self._written: dict[tuple[Timeframe, int], float] = {}

    def unconfirmed(
        self, versions: Mapping[Identity, StoredVersion], now: float
    ) -> list[dict[Identity, StoredVersion]]:
        """The written versions to read back at `now` (seconds of a steady clock), in parts. Each part has one timeframe
        and no wide gap.
        """
        first: dict[tuple[Timeframe, int], Identity] = {}
        for identity in versions:
            span = self._span(identity)
            if (earlier := first.get(span)) is None or identity[2] < earlier[2]:
                first[span] = identity
        new: list[Identity] = []
        for span, identity in first.items():
            if self._written.get(span, _NEVER) < now - _IN_MEMORY_SECONDS:
                new.append(identity)
            else:
                self._written[span] = now
        parts: list[dict[Identity, StoredVersion]] = []
        last: Identity | None = None
        for identity in sorted(new, key=_by_time):
            if last is None or last[1] is not identity[1] or _windows_between(last, identity) > _FAR_WINDOWS:
                parts.append({})
            parts[-1][identity] = versions[identity]
            last = identity
        return parts

    def confirm(self, identities: Iterable[Identity], now: float) -> None:
        """Note that these rows were read back."""
        self._written.update((self._span(identity), now) for identity in identities)

    def _span(self, identity: Identity) -> tuple[Timeframe, int]:
        _, timeframe, open_time = identity
        return timeframe, open_time // self._spans[timeframe]


def lost(written: Mapping[Identity, StoredVersion], stored: Mapping[Identity, StoredVersion]) -> list[Identity]:
    """The written rows of which the store has no version or an older one."""
    return [
        identity
        for identity, version in written.items()
        if (found := stored.get(identity)) is None or _rounded(found) < _rounded(version)
    ]


def _by_time(identity: Identity) -> tuple[int, int]:
    return identity[1].seconds, identity[2]


def _windows_between(before: Identity, after: Identity) -> int:
    return (after[2] - before[2]) // after[1].seconds


def _rounded(version: StoredVersion) -> tuple[bool, int, int]:
    closed, at, revision = version
    return closed, round(at * 1_000_000), revision
