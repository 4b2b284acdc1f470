"""The OpenAPI 3.1 description of admin-api's HTTP interface."""

from typing import Any

from prometheus_client import CollectorRegistry

from admin_api.app import build
from admin_api.settings import AdminSettings
from ingress_common.connector import Connector
from ingress_common.service_names import ADMIN_API


def openapi() -> dict[str, Any]:
    """The description that admin-api serves as `/openapi.json`, as JSON values."""
    registry = CollectorRegistry()
    settings = AdminSettings(_env_file=None, store_url="sqlite:///:memory:")
    return build(settings, registry, Connector.of(settings, ADMIN_API, registry)).app.openapi()
