"""`python -m influx_writer`."""

import sys
import time
from functools import partial

from prometheus_client import CollectorRegistry

from influx_writer.intake import PAYLOAD_LIMIT
from influx_writer.settings import WriterSettings
from influx_writer.writer import NAME, SESSION_SECONDS, Limits, Writer, client_id, last_will, shared_filters
from ingress_common.bus.mqtt import MqttBus
from ingress_common.metrics import BusMetrics
from ingress_common.presence import claim_name
from ingress_common.service import run_service


def build(settings: WriterSettings, registry: CollectorRegistry) -> Writer:
    """The service on a real broker; SettingsError if STORE_URL names no store of this version."""
    started_at = time.time()
    limits = Limits()
    bus = MqttBus(
        settings.mqtt_url,
        client_id=client_id(settings.instance_id),
        will=last_will(settings.topics, settings.instance_id, started_at),
        session_expiry=SESSION_SECONDS,
        inbound_limit=limits.rows,
        payload_limit=PAYLOAD_LIMIT,
        metrics=BusMetrics(registry, NAME),
        before=partial(claim_name, NAME, settings),
    )

    def open_session(instance: str, expiry: int) -> MqttBus:
        return MqttBus(
            settings.mqtt_url, client_id=client_id(instance), session_expiry=expiry, payload_limit=PAYLOAD_LIMIT
        )

    return Writer(
        bus=bus,
        store=settings.store(),
        topics=settings.topics,
        filters=shared_filters(settings.topics),
        instance=settings.instance_id,
        registry=registry,
        started_at=started_at,
        open_session=open_session,
        limits=limits,
    )


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    return run_service(NAME, WriterSettings, build)


if __name__ == "__main__":
    sys.exit(main())
