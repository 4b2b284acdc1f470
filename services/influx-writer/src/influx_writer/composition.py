"""The parts of the service, put together from settings."""

import time
from functools import partial

from prometheus_client import CollectorRegistry

from influx_writer.intake import PAYLOAD_LIMIT
from influx_writer.settings import WriterSettings
from influx_writer.writer import SESSION_SECONDS, Limits, Writer, client_id, control_client_id, last_will
from ingress_common.connector import Connector
from ingress_common.prefix import claim_name_and_prefix
from ingress_common.service_names import WRITER

_EMBEDDED_BATCH_SECONDS = 0.02
"""The embedded broker stops at 100 unacknowledged messages, so a batch must be written quickly."""


def build(settings: WriterSettings, registry: CollectorRegistry, connector: Connector) -> Writer:
    """The writer of one process; SettingsError if STORE_URL names no store of this version."""
    started_at = time.time()
    limits = Limits(seconds=_EMBEDDED_BATCH_SECONDS) if connector.embedded else Limits()
    topics, instance = settings.topics, settings.instance_id
    return Writer(
        bus=connector.open(
            client_id(topics, instance),
            session_expiry=SESSION_SECONDS,
            inbound_limit=limits.inbound,
            payload_limit=PAYLOAD_LIMIT,
            publishes=False,
        ),
        # Opened first, so the name is claimed before the session is taken over.
        control=connector.open(
            control_client_id(topics, instance),
            will=last_will(topics, instance, started_at),
            before=partial(claim_name_and_prefix, WRITER, settings, settings.store_name),
            publishes=False,
        ),
        store=settings.store(),
        topics=topics,
        instance=instance,
        registry=registry,
        started_at=started_at,
        limits=limits,
        unsafe_secrets=settings.unsafe_secrets,
        store_name=settings.store_name,
    )
