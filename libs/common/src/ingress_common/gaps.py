"""A gap in a series of candles."""

from dataclasses import dataclass

from ingress_common.model import Range
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive windows of a series whose closed candles are missing or, if `incomplete`, lack some of their minutes.

    `range`: from the open of the first window to the close of the last.
    """

    symbol: str
    timeframe: Timeframe
    range: Range
    incomplete: bool = False

    def __str__(self) -> str:
        """Symbol, timeframe and range, for logs."""
        start, end = rfc3339(self.range.start), rfc3339(self.range.end)
        return f"{self.symbol} {self.timeframe.value} from {start} to {end}"

    @property
    def windows(self) -> int:
        """Number of candles."""
        return windows_of(self.range, self.timeframe)


def windows_of(span: Range, timeframe: Timeframe) -> int:
    """Number of candles of `timeframe` in `span`."""
    return round((span.end - span.start) / timeframe.seconds)
