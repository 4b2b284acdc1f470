"""The embedded store: one SQLite file."""

from ingress_store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
