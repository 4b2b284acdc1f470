"""Shifting recorded data to now, by whole weeks if it is long enough, so that candles keep their boundaries."""

_DAY = 86_400
_GRAINS = (604_800, 86_400, 14_400, 3_600, 900, 300, 60)


def shift_to_now(first: int, last: int, now: float, play_from: float | None) -> int:
    """Return the seconds to add to the times of data from `first` to `last` (unix seconds) to replay it now.

    With `play_from`, that time in the data becomes now, to the minute. Without it, the latest time that leaves a day of
    data (half of shorter data) becomes now. The shift is a multiple of the longest possible unit of week, day, 4 h ...
    minute.
    """
    if play_from is not None:
        return round((now - play_from) / 60) * 60
    reserve = min(_DAY, (last - first) // 2)
    for grain in _GRAINS:
        shift = -int((last - reserve - now) // grain) * grain
        if now - shift >= first:
            return shift
    return round((now - first) / 60) * 60
