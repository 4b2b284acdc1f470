"""`python -m aggregator`."""

import sys
import time
from functools import partial
from uuid import uuid4

from prometheus_client import CollectorRegistry

from aggregator import __version__
from aggregator.service import Aggregator
from aggregator.settings import AggregatorSettings
from aggregator.subscriptions import SymbolSubscriptions
from ingress_common.bus.mqtt import MqttBus
from ingress_common.heartbeat import claim_name, will_of
from ingress_common.metrics import BusMetrics
from ingress_common.service import run_service

# A session outlives a short cut, not the process: a new one starts from a seed, and stale messages would only delay it.
_SESSION_SECONDS = 60


def build(settings: AggregatorSettings, registry: CollectorRegistry) -> Aggregator:
    """The service of one process."""
    topics, instance = settings.topics, settings.instance_id
    bus = MqttBus(
        settings.mqtt_url,
        client=settings.mqtt_client,
        client_id=f"{topics.prefix}-aggregator-{instance}-{uuid4().hex[:8]}",
        will=will_of(topics, Aggregator.name, instance, version=__version__, started_at=time.time()),
        session_expiry=_SESSION_SECONDS,
        inbound_limit=1000,
        metrics=BusMetrics(registry, Aggregator.name),
        before=partial(claim_name, Aggregator.name, settings),
    )
    return Aggregator(
        bus,
        topics,
        SymbolSubscriptions(topics),
        instance,
        registry,
        time.time,
        give_up_after=settings.gap_give_up_hours * 3600,
        published_secrets=settings.published_secrets,
    )


def main() -> int:
    """Run until a signal; the exit code is 0, 1 (failure) or 2 (setting)."""
    return run_service(Aggregator.name, AggregatorSettings, build)


if __name__ == "__main__":
    sys.exit(main())
