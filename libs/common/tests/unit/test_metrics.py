"""The bus metrics of a service with several connections."""

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.registry import Collector

from ingress_common.metrics import BusGauges, BusMetrics, MetricsPage


class Queues:
    """A connection and how it is."""

    def __init__(self, inbound: int, outbound: int, *, connected: bool = True) -> None:
        self.inbound, self.outbound, self.connected = inbound, outbound, connected

    def connection(self, limit: int = 100) -> BusGauges:
        return BusGauges(lambda: self.connected, lambda: self.inbound, limit, lambda: self.outbound, limit)


def value(registry: CollectorRegistry, name: str) -> float | None:
    return registry.get_sample_value(f"ingress_bus_{name}", {"service": "test"})


def test_service_is_connected_when_all_of_its_connections_are():
    registry = CollectorRegistry()
    metrics = BusMetrics(registry, "test")
    assert value(registry, "connected") == 0
    one, two = Queues(0, 0), Queues(0, 0, connected=False)
    metrics.opened(one.connection())
    second = two.connection()
    metrics.opened(second)
    assert value(registry, "connected") == 0
    two.connected = True
    assert value(registry, "connected") == 1
    two.connected = False
    metrics.closed(second)
    assert value(registry, "connected") == 1


def test_queue_gauge_shows_the_fullest_queue():
    registry = CollectorRegistry()
    metrics = BusMetrics(registry, "test")
    assert (value(registry, "inbound_queued"), value(registry, "outbound_queued")) == (0, 0)
    metrics.opened(Queues(50, 1).connection(limit=1000))
    metrics.opened(Queues(20, 0).connection(limit=30))
    assert (value(registry, "inbound_queued"), value(registry, "inbound_limit")) == (20, 30)
    assert (value(registry, "outbound_queued"), value(registry, "outbound_limit")) == (1, 1000)


def test_metrics_page_is_rendered_at_most_a_tenth_of_the_time():
    now = 0.0
    rendered: list[float] = []
    registry = CollectorRegistry()
    counter = Counter("asked", "Asked", registry=registry)

    class Slow(Collector):
        def collect(self):
            nonlocal now
            rendered.append(now)
            now += 0.02
            return []

        def describe(self):
            return []

    registry.register(Slow())
    page = MetricsPage(registry, lambda: now)
    for _ in range(1_000):
        now += 0.001
        counter.inc()
        page.text()
    assert len(rendered) < 10
    now += 0.2
    assert b"asked_total 1000.0" in page.text()
