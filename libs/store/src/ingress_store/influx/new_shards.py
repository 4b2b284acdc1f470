"""Rows in shards that InfluxDB has just made, which it can lose after it has acknowledged them (decision 45)."""

from collections.abc import Iterable, Mapping

from ingress_common.timeframes import Timeframe
from ingress_store.influx.versions import Identity, Version
from ingress_store.retention import DAY

SETTLING_SECONDS = 0.5
"""How long after a write a query may still show a row that is then lost."""


class NewShards:
    """The days of which this process has read back the first row that it wrote, by timeframe.

    No shard is shorter than a day, so whoever makes a shard writes the first row of a day. A shard loses all of a
    request, so one row stands for all of its day.
    """

    def __init__(self) -> None:
        self._confirmed: set[tuple[Timeframe, int]] = set()

    def unconfirmed(self, versions: Mapping[Identity, Version]) -> dict[Timeframe, dict[Identity, Version]]:
        """The first of the written versions of each day that is to be read back, by timeframe."""
        first: dict[tuple[Timeframe, int], Identity] = {}
        for identity in versions:
            _, timeframe, open_time = identity
            day = timeframe, open_time // DAY
            if day not in self._confirmed and (day not in first or open_time < first[day][2]):
                first[day] = identity
        found: dict[Timeframe, dict[Identity, Version]] = {}
        for (timeframe, _), identity in first.items():
            found.setdefault(timeframe, {})[identity] = versions[identity]
        return found

    def confirm(self, identities: Iterable[Identity]) -> None:
        """Note that these rows were read back."""
        self._confirmed.update((timeframe, open_time // DAY) for _, timeframe, open_time in identities)


def lost(written: Mapping[Identity, Version], stored: Mapping[Identity, Version]) -> list[Identity]:
    """The written rows of which the store has no version or an older one."""
    return [
        identity
        for identity, version in written.items()
        if (found := stored.get(identity)) is None or _rounded(found) < _rounded(version)
    ]


def _rounded(version: Version) -> tuple[bool, int, int]:
    closed, at, revision = version
    return closed, round(at * 1_000_000), revision
