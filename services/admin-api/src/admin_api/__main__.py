"""`python -m admin_api`."""

import asyncio
import signal
import sys
import time

from ingress_common.bus import BusError
from ingress_common.bus.mqtt import MqttBus
from ingress_common.errors import SettingsError, StartError
from ingress_common.logs import configure_logging, get_logger
from ingress_common.metrics import BusMetrics
from ingress_common.settings import load_settings
from ingress_store import StoreUrlError, open_store
from prometheus_client import CollectorRegistry, ProcessCollector

from admin_api.service import NAME, AdminApi, client_id, last_will
from admin_api.settings import AdminSettings

_INBOUND = 5_000
"""Messages: all retained candles of Kraken's pairs, which come at once, with room to spare."""

log = get_logger("admin_api")


def build(settings: AdminSettings, registry: CollectorRegistry) -> AdminApi:
    """The service on a real broker; SettingsError if STORE_URL names no store of this version."""
    try:
        store = open_store(settings.store_url, retention=settings.retention)
    except StoreUrlError as error:
        raise SettingsError(f"STORE_URL: {error}") from None
    started_at = time.time()
    bus = MqttBus(
        settings.mqtt_url,
        client_id=client_id(settings.instance_id),
        will=last_will(settings.topics, settings.instance_id, started_at),
        inbound_limit=_INBOUND,
        metrics=BusMetrics(registry, NAME),
    )
    return AdminApi(
        bus=bus,
        store=store,
        topics=settings.topics,
        instance=settings.instance_id,
        registry=registry,
        started_at=started_at,
        host=settings.http_host,
        port=settings.http_port,
        admin_token=settings.admin_token.get_secret_value() if settings.admin_token else None,
    )


def main() -> int:
    """Run until SIGTERM or SIGINT and give the exit code: 0 (clean), 1 (failure), 2 (setting).

    Not `run_service`: that one serves the probes on HTTP_PORT, where this service serves them itself.
    """
    try:
        settings = load_settings(AdminSettings)
        configure_logging(settings.log_level, settings.log_format)
        asyncio.run(_run(settings))
    except SettingsError as error:
        return _end(error, 2)
    except (StartError, BusError) as error:
        return _end(error, 1)
    return 0


async def _run(settings: AdminSettings) -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    service = build(settings, registry)
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(service.run(), name=NAME)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    await asyncio.wait([work])
    if not work.cancelled():
        work.result()
    log.info("service.stopped", service=NAME)


def _end(error: Exception, code: int) -> int:
    sys.stderr.write(f"{NAME}: {' '.join(str(error).split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
