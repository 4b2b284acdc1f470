"""The OpenAPI 3.1 description of admin-api's HTTP interface."""

from typing import Any

from prometheus_client import CollectorRegistry

from admin_api.app import NAME, build
from admin_api.settings import AdminSettings
from ingress_common.connector import Connector


def openapi() -> dict[str, Any]:
    """The description that admin-api serves as `/openapi.json`, as JSON values."""
    registry = CollectorRegistry()
    settings = AdminSettings(_env_file=None, store_url="sqlite:///:memory:")
    return build(settings, registry, Connector.of(settings, NAME, registry)).app.openapi()
