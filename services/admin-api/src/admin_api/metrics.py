"""What admin-api measures: its own work, and the system as it sees it."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from admin_api.system.health import SILENCE_SECONDS, WORKERS, Report, task_trouble
from admin_api.system.view import BusView
from ingress_store import TaskState

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class AdminMetrics:
    """The service's own counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.messages = Counter("ingress_admin_messages", "Messages taken from the bus", registry=registry)
        self.rejected = Counter(
            "ingress_admin_rejected", "Messages that made no sense, by reason", ("reason",), registry=registry
        )
        self.requests = Counter(
            "ingress_admin_requests", "HTTP requests, by route and status", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "ingress_admin_request_seconds",
            "From the arrival of an HTTP request to the head of its answer, by route",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "ingress_admin_refused", "HTTP requests beyond a limit, by status", ("status",), registry=registry
        )


class StreamMetrics:
    """Counters of the event streams."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open = Gauge("ingress_admin_streams", "Event streams that are open", registry=registry)
        self.limit = Gauge("ingress_admin_streams_limit", "Event streams that may be open", registry=registry)
        self.events = Counter("ingress_admin_stream_events", "Events sent, over all streams", registry=registry)
        self.coalesced = Counter(
            "ingress_admin_stream_coalesced",
            "Forming candles that gave way to a newer one before they were sent",
            registry=registry,
        )
        self.refused = Counter(
            "ingress_admin_streams_refused", "Event streams refused, because too many were open", registry=registry
        )
        self.ended = Counter(
            "ingress_admin_streams_ended",
            "Event streams that ended: client (gone), slow (dropped), shutdown",
            ("reason",),
            registry=registry,
        )
        for reason in ("client", "slow", "shutdown"):
            self.ended.labels(reason)


class SystemCollector(Collector):
    """Reads the view at each scrape, so that what is gone from it is gone from the metrics."""

    def __init__(
        self,
        view: BusView,
        report: Callable[[], Report],
        tasks: Callable[[], Sequence[TaskState]],
        clock: Callable[[], float],
    ) -> None:
        self._view = view
        self._report = report
        self._tasks = tasks
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """The system's metrics now."""
        now = self._clock()
        health = GaugeMetricFamily("ingress_health_check", "Whether a check of GET /health is well", labels=["check"])
        for check in self._report().checks:
            health.add_metric([check.name], float(check.ok))
        yield health
        online = GaugeMetricFamily(
            "ingress_instance_online", "Whether an instance is online", labels=["service", "instance"]
        )
        for (service, instance), entry in self._view.instances.items():
            online.add_metric([service, instance], float(entry.is_online(now, SILENCE_SECONDS)))
        yield online
        age = GaugeMetricFamily("ingress_watermark_age_seconds", "Now less the feed's watermark", labels=["feed"])
        for name, feed in self._view.feeds.items():
            seconds = feed.age(now)
            if seconds is not None:
                age.add_metric([name], seconds)
        yield age
        candle_age = GaugeMetricFamily(
            "ingress_symbol_age_seconds", "Since the receipt of what led to the newest 1m candle", labels=["symbol"]
        )
        for symbol, entry_of_symbol in self._view.symbols.items():
            candle_age.add_metric([symbol], now - entry_of_symbol.newest.at)
        yield candle_age
        letters = CounterMetricFamily("ingress_dead_letters", "Dead letters seen, by service", labels=["service"])
        seen = {service: letter.count for service, letter in self._view.dead_letters.items()}
        # A counter that begins with its first event has no increase there.
        for service, count in {**dict.fromkeys((*WORKERS, "admin-api"), 0), **seen}.items():
            letters.add_metric([service], count)
        yield letters
        well = GaugeMetricFamily("ingress_task_ok", "Whether a task of the store runs, and on time", labels=["task"])
        runs = GaugeMetricFamily(
            "ingress_task_last_run_age_seconds", "Since the last completed run of a task was due", labels=["task"]
        )
        for task in self._tasks():
            well.add_metric([task.name], float(task_trouble(task, now) is None))
            if task.last_run is not None:
                runs.add_metric([task.name], now - task.last_run)
        yield well
        yield runs
