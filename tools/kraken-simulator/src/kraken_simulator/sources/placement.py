"""Moving recorded data to now: by whole weeks where it is long enough, so that every candle keeps its boundaries."""

_DAY = 86_400
_GRAINS = (604_800, 86_400, 14_400, 3_600, 900, 300, 60)


def shift_to_now(first: int, last: int, now: float, play_from: float | None) -> int:
    """Return how many seconds to add to the times of data from `first` to `last` (unix seconds) to play it now.

    With `play_from` that moment of the data is now, to the minute. Otherwise the newest possible moment that leaves a
    day to play (half of the data if it is shorter), by the longest grain of week, day, 4 h ... minute that fits.
    """
    if play_from is not None:
        return round((now - play_from) / 60) * 60
    reserve = min(_DAY, (last - first) // 2)
    for grain in _GRAINS:
        shift = -int((last - reserve - now) // grain) * grain
        if now - shift >= first:
            return shift
    return round((now - first) / 60) * 60
