"""Persists every candle and raw tick of the bus, at least once and idempotently."""

from influx_writer.settings import WriterSettings
from influx_writer.writer import SESSION_SECONDS, Limits, Writer, client_id, last_will

__all__ = ["SESSION_SECONDS", "Limits", "Writer", "WriterSettings", "client_id", "last_will"]
