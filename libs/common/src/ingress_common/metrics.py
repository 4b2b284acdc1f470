"""Metrics that every service has, in the registry it is given; names begin with `ingress_`."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class BusMetrics:
    """What goes over one service's bus, and what does not."""

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        label = ("service",)
        self.connected = Gauge(
            "ingress_bus_connected", "Whether the broker is there (0 or 1)", label, registry=registry
        ).labels(service)
        self._connects = Counter(
            "ingress_bus_connects",
            "Connections made, by whether the broker still had the session",
            (*label, "session"),
            registry=registry,
        )
        self.connect_failures = Counter(
            "ingress_bus_connect_failures", "Connection attempts that failed", label, registry=registry
        ).labels(service)
        self.received = Counter("ingress_bus_received", "Messages received", label, registry=registry).labels(service)
        self.published = Counter(
            "ingress_bus_published", "Messages that the broker has taken", label, registry=registry
        ).labels(service)
        self._dropped = Counter(
            "ingress_bus_dropped", "Messages dropped, by reason", (*label, "reason"), registry=registry
        )
        self.publish_failures = Counter(
            "ingress_bus_publish_failures", "Messages that the broker refused", label, registry=registry
        ).labels(service)
        self.inbound = Gauge(
            "ingress_bus_inbound_queued", "Messages received and not yet taken by the service", label, registry=registry
        ).labels(service)
        self.inbound_limit = Gauge(
            "ingress_bus_inbound_limit", "Bound of the inbound queue", label, registry=registry
        ).labels(service)
        self.outbound = Gauge(
            "ingress_bus_outbound_queued",
            "Messages given to the bus that the broker has not yet taken",
            label,
            registry=registry,
        ).labels(service)
        self.outbound_limit = Gauge(
            "ingress_bus_outbound_limit", "Bound of the outbound queue", label, registry=registry
        ).labels(service)
        self._service = service

    def connect(self, *, session_kept: bool) -> None:
        """A connection was made."""
        self.connected.set(1)
        self._connects.labels(self._service, "kept" if session_kept else "new").inc()

    def dropped(self, reason: str) -> None:
        """A message was dropped: `inbound-full`, or `offline` (QoS 0 while disconnected)."""
        self._dropped.labels(self._service, reason).inc()
