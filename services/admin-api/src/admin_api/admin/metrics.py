"""Metrics of the system's state."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from admin_api.admin.checks import task_problem
from admin_api.admin.health import WORKERS
from admin_api.system.state import SystemState
from ingress_common.health import Check
from ingress_common.service_names import ADMIN_API
from ingress_store import TaskState


class SystemCollector(Collector):
    """Reads the state at each scrape, so that an entry that was removed is removed from the metrics."""

    def __init__(
        self,
        state: SystemState,
        checks: Callable[[], Sequence[Check]],
        tasks: Callable[[], Sequence[TaskState]],
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._checks = checks
        self._tasks = tasks
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """The current metrics."""
        state, now = self._state, self._clock()
        ages = [(name, feed.age(now)) for name, feed in state.feeds.items()]
        runs = [(task.name, task.last_run) for task in self._tasks()]
        yield _gauge(
            "ingress_health_check",
            "Whether a check of GET /health passes",
            ("check",),
            [((check.name,), check.ok) for check in self._checks()],
        )
        yield _gauge(
            "ingress_instance_online",
            "Whether an instance is online",
            ("service", "instance"),
            [(name, entry.is_online(now)) for name, entry in state.instances.items()],
        )
        yield _gauge(
            "ingress_watermark_age_seconds",
            "Age of the feed's watermark",
            ("feed",),
            [((name,), age) for name, age in ages if age is not None],
        )
        yield _gauge(
            "ingress_symbol_age_seconds",
            "Age of the message that led to the symbol's newest 1m candle",
            ("symbol",),
            [((name,), now - symbol.at) for name, symbol in state.symbols.items() if symbol.at is not None],
        )
        yield self._dead_letters()
        yield _gauge(
            "ingress_task_ok",
            "Whether a task of the store runs on time",
            ("task",),
            [((task.name,), task_problem(task, now) is None) for task in self._tasks()],
        )
        yield _gauge(
            "ingress_task_last_run_age_seconds",
            "Time since the due time of a task's last completed run",
            ("task",),
            [((name,), now - last_run) for name, last_run in runs if last_run is not None],
        )

    def _dead_letters(self) -> Metric:
        family = CounterMetricFamily("ingress_dead_letters", "Dead letters seen, by service", labels=["service"])
        seen = {service: letters.count for service, letters in self._state.dead_letters.items()}
        # Start each counter at 0: Prometheus sees no increase in a counter that appears with its first event.
        for service, count in {**dict.fromkeys((*WORKERS, ADMIN_API), 0), **seen}.items():
            family.add_metric([service], count)
        return family


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for names, value in values:
        family.add_metric(names, float(value))
    return family
