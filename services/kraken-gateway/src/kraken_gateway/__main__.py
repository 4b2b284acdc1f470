"""`python -m kraken_gateway`: the gateway as a process."""

import sys
import time
from functools import partial

from prometheus_client import CollectorRegistry

from ingress_common.bus import Bus, LastWill
from ingress_common.bus.mqtt import MqttBus
from ingress_common.heartbeat import claim_name
from ingress_common.metrics import BusMetrics
from ingress_common.service import run_service
from kraken_gateway.publisher import SERVICE
from kraken_gateway.service import REQUESTS, GatewayService
from kraken_gateway.settings import GatewaySettings


def build(settings: GatewaySettings, registry: CollectorRegistry) -> GatewayService:
    """The service on MQTT and the wall clock."""
    metrics = BusMetrics(registry, SERVICE)

    def open_bus(suffix: str, will: LastWill | None) -> Bus:
        client = f"{settings.ingress_topic_prefix}-{SERVICE}-{settings.instance_id}-{suffix}"
        claim = partial(claim_name, SERVICE, settings) if suffix == REQUESTS else None
        return MqttBus(
            settings.mqtt_url,
            client=settings.mqtt_client,
            client_id=client,
            will=will,
            metrics=metrics,
            before=claim,
        )

    return GatewayService(settings, registry, open_bus, time.time)


if __name__ == "__main__":
    sys.exit(run_service(SERVICE, GatewaySettings, build))
