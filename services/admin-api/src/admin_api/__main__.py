"""`python -m admin_api`."""

import sys
import time
from functools import partial

from prometheus_client import CollectorRegistry

from admin_api.letters import LETTERS_INBOUND_SPARE, LETTERS_SESSION_SECONDS, client_id_of_letters
from admin_api.service import NAME, AdminApi, client_id, last_will
from admin_api.settings import AdminSettings
from ingress_common.bus.mqtt import MqttBus
from ingress_common.metrics import BusMetrics
from ingress_common.presence import claim_name
from ingress_common.service import run_http_service

_INBOUND = 5_000
"""Messages: all retained candles of Kraken's pairs, which come at once, with room to spare."""


def build(settings: AdminSettings, registry: CollectorRegistry) -> AdminApi:
    """The service on a real broker; SettingsError if STORE_URL names no store of this version."""
    started_at = time.time()
    metrics = BusMetrics(registry, NAME)
    bus = MqttBus(
        settings.mqtt_url,
        client_id=client_id(settings.instance_id),
        will=last_will(settings.topics, settings.instance_id, started_at),
        inbound_limit=_INBOUND,
        metrics=metrics,
        before=partial(claim_name, NAME, settings),
    )
    limits = settings.upkeep()
    letters_bus = MqttBus(
        settings.mqtt_url,
        client_id=client_id_of_letters(settings.instance_id),
        session_expiry=LETTERS_SESSION_SECONDS,
        inbound_limit=limits.letters_kept + LETTERS_INBOUND_SPARE,
        metrics=metrics,
    )
    return AdminApi(
        bus=bus,
        letters_bus=letters_bus,
        store=settings.store(),
        topics=settings.topics,
        instance=settings.instance_id,
        registry=registry,
        started_at=started_at,
        host=settings.http_host,
        port=settings.http_port,
        admin_token=settings.admin_token.get_secret_value() if settings.admin_token else None,
        limits=limits,
    )


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit code is 0, 1 (failure) or 2 (setting)."""
    return run_http_service(NAME, AdminSettings, build, claim_name)


if __name__ == "__main__":
    sys.exit(main())
