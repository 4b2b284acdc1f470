"""`python -m influx_writer`."""

import sys
import time
from functools import partial

from prometheus_client import CollectorRegistry

from influx_writer.intake import PAYLOAD_LIMIT
from influx_writer.settings import WriterSettings
from influx_writer.writer import NAME, SESSION_SECONDS, Limits, Writer, client_id, control_client_id, last_will
from ingress_common.bus.mqtt import MqttBus
from ingress_common.metrics import BusMetrics
from ingress_common.prefix import claim_name_and_prefix
from ingress_common.service import run_service


def build(settings: WriterSettings, registry: CollectorRegistry) -> Writer:
    """The service on a real broker; SettingsError if STORE_URL names no store of this version."""
    started_at = time.time()
    limits = Limits()
    metrics = BusMetrics(registry, NAME)
    instance = settings.instance_id
    return Writer(
        bus=MqttBus(
            settings.mqtt_url,
            client=settings.mqtt_client,
            client_id=client_id(settings.topics, instance),
            session_expiry=SESSION_SECONDS,
            inbound_limit=limits.inbound,
            payload_limit=PAYLOAD_LIMIT,
            metrics=metrics,
        ),
        # Opened first, so the name is claimed before the session is taken over.
        control=MqttBus(
            settings.mqtt_url,
            client=settings.mqtt_client,
            client_id=control_client_id(settings.topics, instance),
            will=last_will(settings.topics, instance, started_at),
            metrics=metrics,
            before=partial(claim_name_and_prefix, NAME, settings, settings.store_name),
        ),
        store=settings.store(),
        topics=settings.topics,
        instance=instance,
        registry=registry,
        started_at=started_at,
        limits=limits,
        published_secrets=settings.published_secrets,
        store_name=settings.store_name,
    )


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    return run_service(NAME, WriterSettings, build)


if __name__ == "__main__":
    sys.exit(main())
