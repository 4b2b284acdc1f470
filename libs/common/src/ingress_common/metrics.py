"""Metrics that every service has; names begin with `ingress_`."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

_RENDERING_SHARE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class BusGauges:
    """The state of an open connection for each scrape: whether it is connected, and the length of its queues."""

    connected: Callable[[], bool]
    inbound: Callable[[], int]
    inbound_limit: int
    outbound: Callable[[], int]
    outbound_limit: int


class MetricsPage:
    """The text of all metrics, as `/metrics` serves it.

    Scrapes are not rate-limited, so rendering takes at most a tenth of the time; in between it serves the last text.
    `steady`: a monotonic clock in seconds.
    """

    def __init__(self, registry: CollectorRegistry, steady: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._steady = steady
        self._text = b""
        self._render_at = float("-inf")

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        began = self._steady()
        if began >= self._render_at:
            self._text = generate_latest(self._registry)
            self._render_at = began + (self._steady() - began) / _RENDERING_SHARE
        return self._text


class MessageCounter(Collector):
    """A counter for one event loop, without prometheus_client's lock, which costs more than the count itself."""

    def __init__(self, name: str, text: str, service: str, registry: CollectorRegistry) -> None:
        self._family = (name, text, service)
        self._count = 0
        registry.register(self)

    def inc(self) -> None:
        """Add one."""
        self._count += 1

    def collect(self) -> Iterable[Metric]:
        """The counter's current value, for prometheus_client."""
        name, text, service = self._family
        family = CounterMetricFamily(name, text, labels=("service",))
        family.add_metric((service,), self._count)
        yield family

    describe = collect


class BusMetrics:
    """The bus metrics of one service.

    A service may have several connections. Counters are sums over them, queue gauges show the fullest queue, and
    `connected` is 1 when all of them are connected.
    """

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        label = ("service",)
        self._connections: list[BusGauges] = []
        Gauge(
            "ingress_bus_connected",
            "Whether all of the service's broker connections are up (0 or 1)",
            label,
            registry=registry,
        ).labels(service).set_function(self._all_connected)
        self._connects = Counter(
            "ingress_bus_connects",
            "Connections made, by session: kept (the broker still had it) or new",
            (*label, "session"),
            registry=registry,
        )
        self.connect_failures = Counter(
            "ingress_bus_connect_failures", "Connection attempts that failed", label, registry=registry
        ).labels(service)
        self.received = MessageCounter("ingress_bus_received", "Messages received", service, registry)
        self.published = MessageCounter(
            "ingress_bus_published", "Messages that the broker has confirmed", service, registry
        )
        self._dropped = Counter(
            "ingress_bus_dropped",
            "Messages dropped, by reason: inbound-full, offline (QoS 0 while disconnected)",
            (*label, "reason"),
            registry=registry,
        )
        self.publish_failures = Counter(
            "ingress_bus_publish_failures", "Messages that the broker refused", label, registry=registry
        ).labels(service)
        queues = (
            ("inbound_queued", "Messages received and not yet processed by the service", lambda: self._inbound()[0]),
            ("inbound_limit", "Maximum length of the inbound queue", lambda: self._inbound()[1]),
            (
                "outbound_queued",
                "Messages published that the broker has not yet confirmed",
                lambda: self._outbound()[0],
            ),
            ("outbound_limit", "Maximum length of the outbound queue", lambda: self._outbound()[1]),
        )
        for name, text, read in queues:
            Gauge(f"ingress_bus_{name}", text, label, registry=registry).labels(service).set_function(read)
        self._service = service
        # Create both series at 0: Prometheus sees no increase in a series that begins with its first event.
        for reason in ("inbound-full", "offline"):
            self._dropped.labels(service, reason)

    def opened(self, connection: BusGauges) -> None:
        """Include `connection` in the gauges."""
        self._connections.append(connection)

    def closed(self, connection: BusGauges) -> None:
        """Remove `connection` from the gauges."""
        self._connections.remove(connection)

    def connect(self, *, session_kept: bool) -> None:
        """Count a connection."""
        self._connects.labels(self._service, "kept" if session_kept else "new").inc()

    def dropped(self, reason: str) -> None:
        """Count a dropped message. `reason`: `inbound-full`, or `offline` (QoS 0 while disconnected)."""
        self._dropped.labels(self._service, reason).inc()

    def _all_connected(self) -> float:
        return float(bool(self._connections) and all(connection.connected() for connection in self._connections))

    def _inbound(self) -> tuple[int, int]:
        return _fullest([(connection.inbound(), connection.inbound_limit) for connection in self._connections])

    def _outbound(self) -> tuple[int, int]:
        return _fullest([(connection.outbound(), connection.outbound_limit) for connection in self._connections])


def _fullest(queues: list[tuple[int, int]]) -> tuple[int, int]:
    """The queue (length, limit) that is nearest to its limit; (0, 1) if there is none."""
    return max(queues, key=lambda queue: queue[0] / queue[1], default=(0, 1))
