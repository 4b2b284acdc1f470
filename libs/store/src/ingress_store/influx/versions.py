"""The versions of candles that this store has written or read, so that a late older one does not replace them."""

from collections.abc import Mapping

from ingress_common.timeframes import Timeframe

Identity = tuple[str, Timeframe, int]
"""Symbol, timeframe and open time."""

StoredVersion = tuple[bool, float, int]
"""What decides which of two candles of one identity is kept (`ingress_store.ordering`): closed, `at`, revision."""

_REMEMBERED = 15_000


class KnownVersions:
    """The newest known version of recent candles, from `limit` to twice as many identities.

    There are two generations: when the younger one is full, the older one is forgotten as a whole, so the cost is that
    of a dictionary.
    """

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._younger: dict[Identity, StoredVersion] = {}
        self._older: dict[Identity, StoredVersion] = {}

    def get(self, identity: Identity) -> StoredVersion | None:
        """The newest known version; None if unknown or forgotten."""
        return self._younger.get(identity) or self._older.get(identity)

    def remember(self, versions: Mapping[Identity, StoredVersion]) -> None:
        """Note that these versions are stored."""
        self._younger.update(versions)
        if len(self._younger) > self._limit:
            self._older, self._younger = self._younger, {}
