"""Bootstraps and repairs the store, reports the health of everything, serves candles over HTTP."""

from admin_api.http.app import create_app
from admin_api.http.context import Context
from admin_api.maintenance.upkeep import UpkeepLimits
from admin_api.service import NAME, AdminApi, client_id, last_will
from admin_api.settings import AdminSettings
from admin_api.system.view import BusView

__all__ = [
    "NAME",
    "AdminApi",
    "AdminSettings",
    "BusView",
    "Context",
    "UpkeepLimits",
    "client_id",
    "create_app",
    "last_will",
]
