"""Metrics that every service has, in the registry it is given; names begin with `ingress_`."""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """What is asked of an open connection at each scrape: whether the broker is there, how full its queues are."""

    connected: Callable[[], bool]
    inbound: Callable[[], int]
    inbound_limit: int
    outbound: Callable[[], int]
    outbound_limit: int


class BusMetrics:
    """What goes over one service's bus, and what does not.

    A service may have several connections: the counters are their sum, the queues those of the one whose queue is
    fullest, and they count as connected when all of them are.
    """

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        label = ("service",)
        self._connections: list[Connection] = []
        Gauge(
            "ingress_bus_connected",
            "Whether the broker is there, for every connection that the service has (0 or 1)",
            label,
            registry=registry,
        ).labels(service).set_function(self._all_connected)
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
            "ingress_bus_dropped",
            "Messages dropped, by reason: inbound-full, offline (QoS 0 while disconnected)",
            (*label, "reason"),
            registry=registry,
        )
        self.publish_failures = Counter(
            "ingress_bus_publish_failures", "Messages that the broker refused", label, registry=registry
        ).labels(service)
        queues = (
            ("inbound_queued", "Messages received and not yet taken by the service", lambda: self._inbound()[0]),
            ("inbound_limit", "Bound of the inbound queue", lambda: self._inbound()[1]),
            (
                "outbound_queued",
                "Messages given to the bus that the broker has not yet taken",
                lambda: self._outbound()[0],
            ),
            ("outbound_limit", "Bound of the outbound queue", lambda: self._outbound()[1]),
        )
        for name, text, read in queues:
            Gauge(f"ingress_bus_{name}", text, label, registry=registry).labels(service).set_function(read)
        self._service = service
        # A counter that begins with its first event has no increase there.
        for reason in ("inbound-full", "offline"):
            self._dropped.labels(service, reason)

    def opened(self, connection: Connection) -> None:
        """A bus was opened: watch it."""
        self._connections.append(connection)

    def closed(self, connection: Connection) -> None:
        """It was closed, and counts no more."""
        self._connections.remove(connection)

    def connect(self, *, session_kept: bool) -> None:
        """A connection was made."""
        self._connects.labels(self._service, "kept" if session_kept else "new").inc()

    def dropped(self, reason: str) -> None:
        """A message was dropped: `inbound-full`, or `offline` (QoS 0 while disconnected)."""
        self._dropped.labels(self._service, reason).inc()

    def _all_connected(self) -> float:
        return float(bool(self._connections) and all(connection.connected() for connection in self._connections))

    def _inbound(self) -> tuple[int, int]:
        return _fullest([(connection.inbound(), connection.inbound_limit) for connection in self._connections])

    def _outbound(self) -> tuple[int, int]:
        return _fullest([(connection.outbound(), connection.outbound_limit) for connection in self._connections])


def _fullest(queues: list[tuple[int, int]]) -> tuple[int, int]:
    """The queue (what is in it, its bound) that is nearest to its bound; without one nothing is queued."""
    return max(queues, key=lambda queue: queue[0] / queue[1], default=(0, 1))
