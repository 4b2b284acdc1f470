"""Whether a feed has missed trades, by what Kraken tells on another way. Pure.

`seen` and `told` are the trades of minutes by open time (unix seconds); `told` has every minute of its span that
traded.
"""

from collections.abc import Mapping


def is_behind(seen: Mapping[int, int], told: Mapping[int, int]) -> bool:
    """Whether Kraken tells of newer trades than the feed has seen. A feed that has seen nothing yet is not behind."""
    return bool(seen) and max(seen.items()) < max(told.items(), default=(0, 0))


def has_missed(seen: Mapping[int, int], told: Mapping[int, int], closed: float) -> bool:
    """Whether Kraken tells of more trades in a minute that opened by `closed` (unix seconds) than the feed has seen.

    Minutes up to the oldest one seen are not judged: the feed may not have heard of them at all.
    """
    if not seen:
        return False
    oldest = min(seen)
    return any(seen.get(minute, 0) < trades for minute, trades in told.items() if oldest < minute <= closed)
