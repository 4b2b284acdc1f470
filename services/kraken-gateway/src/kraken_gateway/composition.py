"""The parts of the service, put together from settings."""

import time
from functools import partial

from prometheus_client import CollectorRegistry

from ingress_common.bus import Bus, LastWill
from ingress_common.connector import Connector
from ingress_common.heartbeat import claim_name
from ingress_common.service_names import GATEWAY
from kraken_gateway.service import REQUESTS, GatewayService
from kraken_gateway.settings import GatewaySettings


def build(settings: GatewaySettings, registry: CollectorRegistry, connector: Connector) -> GatewayService:
    """The gateway of one process."""

    def open_bus(suffix: str, will: LastWill | None) -> Bus:
        return connector.open(
            f"{settings.ingress_topic_prefix}-{GATEWAY}-{settings.instance_id}-{suffix}",
            will=will,
            before=partial(claim_name, GATEWAY, settings) if suffix == REQUESTS else None,
        )

    return GatewayService(settings, registry, open_bus, time.time)
