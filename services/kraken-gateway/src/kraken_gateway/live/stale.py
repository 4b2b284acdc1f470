"""Whether a subscription is stale: an independent reading shows trades that the live feed has not received. Pure.

`seen` and `reading` are trade counts by open time (unix seconds); a reading has every minute of its range that traded.
"""

from collections.abc import Mapping

_MINUTES_SEEN = 20


class SeenTrades:
    """The trade counts of each symbol's latest minutes, as received on one connection."""

    def __init__(self) -> None:
        self._minutes: dict[str, dict[int, int]] = {}
        self._newest: dict[str, tuple[int, int]] = {}

    def note(self, symbol: str, open_time: int, trades: int) -> bool:
        """Note a received row of `symbol`; returns whether it is newer than all before."""
        minutes = self._minutes.get(symbol)
        if minutes is None:
            minutes = self._minutes[symbol] = {}
        if trades > minutes.get(open_time, 0):
            minutes[open_time] = trades
            if len(minutes) > _MINUTES_SEEN:
                del minutes[min(minutes)]
        if (open_time, trades) <= self._newest.get(symbol, (0, 0)):
            return False
        self._newest[symbol] = (open_time, trades)
        return True

    def of(self, symbol: str) -> Mapping[int, int]:
        """The trades of the latest minutes of `symbol`, by open time (unix seconds)."""
        return self._minutes.get(symbol, {})


def newest(trades: Mapping[int, int]) -> tuple[int, int]:
    """The last minute that traded, and its trades."""
    return max(trades.items(), default=(0, 0))


def is_behind(seen: Mapping[int, int], reading: Mapping[int, int]) -> bool:
    """Whether the reading has newer trades than were seen. A feed that has seen nothing yet is not behind."""
    return bool(seen) and newest(seen) < newest(reading)


def has_missed(seen: Mapping[int, int], reading: Mapping[int, int], closed: float) -> bool:
    """Whether the reading has a minute with more trades than the feed received. `closed`: open time of the last minute
    to compare (unix seconds).

    Minutes up to the oldest one seen are not compared: the feed may not have received them at all.
    """
    if not seen:
        return False
    oldest = min(seen)
    return any(seen.get(minute, 0) < trades for minute, trades in reading.items() if oldest < minute <= closed)
