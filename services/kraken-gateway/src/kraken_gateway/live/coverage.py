"""The coverage of a live feed: which symbols, from when on, and up to when all their updates are published. Pure.

Times are unix seconds in Kraken's time, unless called steady.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ingress_common.model import GRACE
from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken.connection import Received

_STAMP_SLACK = 1.0
_WATERMARK_SECONDS = 0.75
_GROWTH_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Coverage:
    """A feed covers `symbols` from `since` on; `rejected`: the rejected symbols, with the reason."""

    since: float
    symbols: tuple[str, ...]
    rejected: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reach:
    """Everything up to `watermark` is published, as known `at`; `ends_minute`: whether it is the first mark of a
    minute.
    """

    watermark: float
    at: float
    ends_minute: bool


@dataclass(slots=True)
class CoverageTracker:
    """Follows one connection. No coverage begins before `since_after`."""

    since_after: float
    coverage: Coverage | None = None
    watermark: float = float("-inf")
    _announced_at: float = float("-inf")
    _marked_at: float = float("-inf")
    _stamped: float = float("-inf")
    _plain: float | None = None
    _dated: tuple[float, float] | None = field(default=None)

    # --- which symbols ---

    def cover(
        self, live: Mapping[str, float], rejected: Mapping[str, str], begun: float, steady: float
    ) -> Coverage | None:
        """The new coverage to announce; None if it is unchanged, or more symbols are about to join.

        `live`: the symbols whose snapshots are on the bus, and from when on; `begun`: when the first was subscribed.
        """
        old = self.coverage
        if old is None:
            if not live:
                return None
            since = max(begun, self.since_after)
            if all(oldest > since for oldest in live.values()):
                since = min(live.values())
        else:
            since = old.since
        # A symbol whose snapshot begins after the coverage joins once the coverage can begin later without a gap.
        joining = {
            symbol: oldest
            for symbol, oldest in live.items()
            if oldest <= since or (old is not None and (oldest <= self.watermark or symbol in old.symbols))
        }
        new = Coverage(max(since, *joining.values(), since), tuple(sorted(joining)), rejected)
        if new == old:
            return None
        grows = old is not None and set(old.symbols) <= joining.keys()
        if grows and steady - self._announced_at < _GROWTH_SECONDS:
            # At the start symbols join one by one, and each state is longer than the last.
            return None
        self.coverage, self._announced_at = new, steady
        return new

    def covers(self, live: Mapping[str, float], rejected: Mapping[str, str]) -> bool:
        """Whether the coverage is that of `live` and `rejected` already."""
        coverage = self.coverage
        if coverage is None:
            return not live
        return live.keys() == set(coverage.symbols) and rejected == coverage.rejected

    # --- up to when ---

    def processed(self, received: Received, *, in_order: bool) -> None:
        """Note that the content of `received` is on the bus; `in_order`: so is everything received before it."""
        sent = received.sent
        if sent is None:
            self._plain = received.at
        elif in_order and (self._dated is None or sent >= self._dated[0]):
            self._dated = (sent, received.at)

    def advance(self, steady: float, *, caught_up: bool) -> Reach | None:
        """Return the watermark to publish now (unix seconds of Kraken); None if none is due.

        A frame that was delayed, on its way or in our queue, counts for the time that Kraken wrote into it. A heartbeat
        has no time, and counts only when nothing else waits (`caught_up`).
        """
        known: list[tuple[float, float]] = []
        if self._dated is not None:
            stamp, at = self._dated
            known.append((min(at, stamp + _STAMP_SLACK) if caught_up else min(at, stamp), at))
        if caught_up and self._plain is not None:
            known.append((self._plain, self._plain))
        if self.coverage is None or not known:
            return None
        instant, at = max(known)
        watermark = instant - GRACE
        before = max(self.watermark, self.coverage.since)
        if watermark <= before:
            return None
        ends_minute = Timeframe.M1.floor(watermark) > Timeframe.M1.floor(before)
        if not ends_minute and steady - self._marked_at < _WATERMARK_SECONDS:
            return None
        self._plain = self._dated = None
        # The measured time may step back a little; a watermark must not.
        self._stamped = max(self._stamped, at)
        self.watermark, self._marked_at = watermark, steady
        return Reach(watermark, self._stamped, ends_minute)


def without(live: Mapping[str, float], excluded: Collection[str]) -> dict[str, float]:
    """`live` without the symbols that are excluded."""
    return {symbol: oldest for symbol, oldest in live.items() if symbol not in excluded}
