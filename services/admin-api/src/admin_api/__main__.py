"""`python -m admin_api`."""

import resource
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

_INBOUND = 20_000
"""Messages: the retained candles of all of Kraken's pairs and timeframes, which come at once, with room to spare."""

_FILES = 65_536
"""Open files, where the system lets us."""


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
        http_limits=settings.http_limits,
        trusted_proxies=settings.trusted_proxies,
        limits=limits,
    )


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit code is 0, 1 (failure) or 2 (setting)."""
    _allow_files()
    return run_http_service(NAME, AdminSettings, build)


def _allow_files() -> None:
    """Let each stream be an open file: many systems begin with 1,024 where they allow more."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


if __name__ == "__main__":
    sys.exit(main())
