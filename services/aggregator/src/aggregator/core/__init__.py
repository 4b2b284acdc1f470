"""The candle core: a pure function of messages. No clock, no I/O, no asyncio."""

from aggregator.core.book import Book, Depth
from aggregator.core.coverage import Intervals
from aggregator.core.engine import Engine, Output

__all__ = ["Book", "Depth", "Engine", "Intervals", "Output"]
