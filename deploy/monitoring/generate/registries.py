"""The metrics of every service, from the registry of a built service."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from admin_api.app import build as build_admin
from admin_api.settings import AdminSettings
from aggregator.composition import build as build_aggregator
from aggregator.settings import AggregatorSettings
from influx_writer.composition import build as build_writer
from influx_writer.settings import WriterSettings
from ingress_common.connector import Connector
from ingress_common.settings import ServiceSettings
from kraken_gateway.composition import build as build_gateway
from kraken_gateway.settings import GatewaySettings

_STORE = "sqlite:///:memory:"

Builder = Callable[[Any, CollectorRegistry, Connector], object]

_BUILDERS: dict[str, tuple[Builder, Callable[[], ServiceSettings]]] = {
    "kraken-gateway": (build_gateway, lambda: GatewaySettings(_env_file=None, symbols=("BTC/USD",))),
    "aggregator": (build_aggregator, lambda: AggregatorSettings(_env_file=None)),
    "influx-writer": (build_writer, lambda: WriterSettings(_env_file=None, store_url=_STORE)),
    "admin-api": (build_admin, lambda: AdminSettings(_env_file=None, store_url=_STORE)),
}

SERVICES = tuple(_BUILDERS)

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


@dataclass(frozen=True, slots=True)
class MetricKind:
    """A metric: its name as Prometheus shows it (a counter with `_total`), its type, labels and help text."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series."""
        base = self.name.removesuffix("_total") if self.type == "counter" else self.name
        return tuple(base + suffix for suffix in _SUFFIXES[self.type])


def registry_of(service: str) -> CollectorRegistry:
    """The registry of a service that is built but not run."""
    registry = CollectorRegistry()
    build, settings_of = _BUILDERS[service]
    settings = settings_of()
    build(settings, registry, Connector.of(settings, service, registry))
    return registry


def metrics_of(service: str) -> list[MetricKind]:
    """All metrics of a service, sorted by name."""
    return sorted(_metrics(registry_of(service)), key=lambda metric: metric.name)


def _metrics(registry: CollectorRegistry) -> Iterator[MetricKind]:
    # No public API returns the labels of a metric without samples, or the collectors.
    for collector in set(registry._collector_to_names):  # noqa: SLF001
        own = getattr(collector, "_labelnames", None)
        for family in collector.collect():
            labels = own if own is not None else getattr(family, "_labelnames", ())
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield MetricKind(name, family.type, tuple(labels), family.documentation)
