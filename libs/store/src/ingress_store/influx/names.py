"""The names in InfluxDB (the contract, `design.md`, section 4)."""

from ingress_common.timeframes import Timeframe

CANDLE = "candle"
"""Measurement of candles."""

TICK = "tick"
"""Measurement of raw ticks."""

TICKS = "ticks_1m"
"""Bucket of raw ticks."""

WRITER_TOKEN = "crypto-ingress writer"  # noqa: S105 - the name of one
"""Description of the writer's token: it may read and write our buckets."""

READER_TOKEN = "crypto-ingress reader"  # noqa: S105 - the name of one
"""Description of the token that may only read."""


def candles(timeframe: Timeframe) -> str:
    """Bucket of a timeframe's candles."""
    return f"candles_{timeframe.value}"


def task(timeframe: Timeframe) -> str:
    """Task that rolls up a timeframe's candles from the next lower one."""
    return f"downsample_{timeframe.value}"
