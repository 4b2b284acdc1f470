"""How long candles and ticks are kept."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ingress_common.timeframes import TIMEFRAMES, Timeframe

HOUR = 3600
DAY = 86400
YEAR = 365 * DAY

_UNITS = {"h": HOUR, "d": DAY, "w": 7 * DAY, "y": YEAR}
_DURATION = re.compile(r"([1-9][0-9]{0,5})([hdwy])")
_DEFAULT: Mapping[Timeframe, int | None] = MappingProxyType(
    {
        Timeframe.M1: 90 * DAY,
        Timeframe.M5: YEAR,
        Timeframe.M15: 2 * YEAR,
        Timeframe.H1: 5 * YEAR,
        Timeframe.H4: None,
        Timeframe.D1: None,
        Timeframe.W1: None,
    }
)


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds for which candles of each timeframe, and raw ticks, are kept; None is forever."""

    candles: Mapping[Timeframe, int | None] = field(default_factory=lambda: _DEFAULT)
    ticks: int | None = 7 * DAY

    @property
    def text(self) -> str:
        """The text that `parse` reads, with every bucket."""
        kept = {**{timeframe.value: seconds for timeframe, seconds in self.candles.items()}, "ticks": self.ticks}
        return ",".join(f"{name}={duration(seconds)}" for name, seconds in kept.items())

    @classmethod
    def parse(cls, text: str) -> "Retention":
        """Parse `1m=90d,5m=1y,1w=forever,ticks=7d`; the others keep their default. ValueError states the options."""
        retention, named = cls(), set[str]()
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = (piece.strip() for piece in part.partition("="))
            if name in named:
                raise ValueError(f"expected {name} once, got it again in {part!r}")
            named.add(name)
            if name == "ticks":
                retention = replace(retention, ticks=_seconds(part, value))
            elif name in {timeframe.value for timeframe in TIMEFRAMES}:
                timeframe, seconds = Timeframe(name), _seconds(part, value)
                if seconds is not None and seconds < 2 * timeframe.seconds:
                    raise ValueError(f"expected at least two candles of {name}, got {part!r}")
                candles = {**retention.candles, timeframe: seconds}
                retention = replace(retention, candles=MappingProxyType(candles))
            else:
                names = ", ".join([timeframe.value for timeframe in TIMEFRAMES] + ["ticks"])
                raise ValueError(f"expected one of {names} before '=', got {part!r}")
        return retention


def duration(seconds: int | None) -> str:
    """The text of `seconds` as in RETENTION; None is forever."""
    if seconds is None:
        return "forever"
    unit = next(unit for unit in ("y", "d", "h") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _seconds(part: str, value: str) -> int | None:
    if value == "forever":
        return None
    match = _DURATION.fullmatch(value)
    if not match:
        raise ValueError(f"expected a time such as 12h, 90d, 4w, 1y or forever, got {part!r}")
    return int(match[1]) * _UNITS[match[2]]
