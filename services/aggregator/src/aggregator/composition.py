"""The parts of the service, put together from settings."""

import time
from functools import partial
from uuid import uuid4

from prometheus_client import CollectorRegistry

from aggregator import __version__
from aggregator.service import Aggregator
from aggregator.settings import AggregatorSettings
from aggregator.subscriptions import SingleFilterSubscription, SymbolSubscriptions
from ingress_common.connector import Connector
from ingress_common.heartbeat import claim_name, will_of

# A session outlives a short cut, not the process: a new one starts from a seed, and stale messages would only delay it.
_SESSION_SECONDS = 60


def build(settings: AggregatorSettings, registry: CollectorRegistry, connector: Connector) -> Aggregator:
    """The aggregator of one process."""
    topics, instance = settings.topics, settings.instance_id
    bus = connector.open(
        f"{topics.prefix}-aggregator-{instance}-{uuid4().hex[:8]}",
        will=will_of(topics, Aggregator.name, instance, version=__version__, started_at=time.time()),
        session_expiry=_SESSION_SECONDS,
        before=partial(claim_name, Aggregator.name, settings),
    )
    return Aggregator(
        bus,
        topics,
        SingleFilterSubscription(topics) if connector.embedded else SymbolSubscriptions(topics),
        instance,
        registry,
        time.time,
        give_up_after=settings.gap_give_up_hours * 3600,
        unsafe_secrets=settings.unsafe_secrets,
    )
