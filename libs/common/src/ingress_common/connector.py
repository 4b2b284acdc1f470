"""The connections of a service to its broker, as the composition of each service opens them."""

from collections.abc import Awaitable, Callable
from typing import Self

from prometheus_client import CollectorRegistry

from ingress_common.bus.client import MqttClient
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.port import Bus, LastWill
from ingress_common.bus.session import MAXIMUM_PAYLOAD
from ingress_common.bus.url import MqttUrl
from ingress_common.metrics import BusMetrics
from ingress_common.settings import ServiceSettings

INBOUND_LIMIT = 1000
"""Maximum number of unacknowledged messages, where a service does not state another."""


class Connector:
    """Opens connections to the broker at `url` with the MQTT library `client`."""

    embedded = False
    """Whether the broker runs inside this process: it keeps order only within one subscription, and confirms nothing to
    a client with 100 unacknowledged messages.
    """

    def __init__(self, url: MqttUrl, client: MqttClient, metrics: BusMetrics | None = None) -> None:
        self.url = url
        self._client = client
        self._metrics = metrics

    @classmethod
    def of(cls, settings: ServiceSettings, service: str, registry: CollectorRegistry) -> Self:
        """The connections of a service by its settings, with metrics in `registry`."""
        return cls(settings.mqtt_url, settings.mqtt_client, BusMetrics(registry, service))

    def open(
        self,
        client_id: str,
        *,
        will: LastWill | None = None,
        session_expiry: int = 0,
        inbound_limit: int = INBOUND_LIMIT,
        payload_limit: int = MAXIMUM_PAYLOAD,
        before: Callable[[], Awaitable[None]] | None = None,
        publishes: bool = True,  # noqa: ARG002 - the embedded broker needs it
    ) -> Bus:
        """A connection, not yet opened; the arguments are those of `MqttBus`.

        `publishes`: whether the service publishes on it too, and acknowledges messages only after that.
        """
        return MqttBus(
            self.url,
            client=self._client,
            client_id=client_id,
            will=will,
            session_expiry=session_expiry,
            inbound_limit=inbound_limit,
            payload_limit=payload_limit,
            metrics=self._metrics,
            before=before,
        )
