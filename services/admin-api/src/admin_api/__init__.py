"""Bootstraps and repairs the store, reports the health of everything, serves candles over HTTP."""

from admin_api.settings import AdminSettings

__all__ = ["AdminSettings"]
