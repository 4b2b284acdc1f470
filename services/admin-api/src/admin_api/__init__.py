"""Bootstraps and repairs the store, reports the health of everything, serves candles over HTTP."""

from admin_api.app import NAME, AdminApi, client_id, last_will
from admin_api.settings import AdminSettings

__all__ = ["NAME", "AdminApi", "AdminSettings", "client_id", "last_will"]
