"""The candle core: a pure function of messages. No clock, no I/O, no asyncio."""

from aggregator.core.coverage import Intervals
from aggregator.core.engine import Engine, Output
from aggregator.core.late_end import LateEnd
from aggregator.core.series import CandleSeries, Depth

__all__ = ["CandleSeries", "Depth", "Engine", "Intervals", "LateEnd", "Output"]
