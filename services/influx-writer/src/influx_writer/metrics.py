"""What influx-writer counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_ROWS = (1, 10, 50, 100, 500, 1000, 2000, 5000, 10000)
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class WriterMetrics:
    """The writer's own metrics; `kind` is candle, forming or tick."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.received = Counter(
            "ingress_writer_received", "Rows taken from the bus, by kind", ("kind",), registry=registry
        )
        self.written = Counter("ingress_writer_written", "Rows in the store, by kind", ("kind",), registry=registry)
        self.rejected = Counter("ingress_writer_rejected", "Rows that the store did not take", registry=registry)
        self.passed_over = Counter(
            "ingress_writer_forming_passed_over", "Forming candles for which a newer one was written", registry=registry
        )
        self.dead_letters = Counter(
            "ingress_writer_dead_letters", "Messages put aside, by reason", ("reason",), registry=registry
        )
        self.dead_letter_failures = Counter(
            "ingress_writer_dead_letter_failures", "Dead letters that the broker refused", registry=registry
        )
        self.rejected_statuses = Counter(
            "ingress_writer_rejected_statuses", "Status messages of writers that made no sense", registry=registry
        )
        self.retries = Counter("ingress_writer_retries", "Batches that had to be tried again", registry=registry)
        self.rewritten = Counter(
            "ingress_writer_rewritten",
            "Candles written again because an older version had replaced them",
            registry=registry,
        )
        self.unsettled_dropped = Counter(
            "ingress_writer_unsettled_dropped",
            "Candles written that were too many to be looked at again",
            registry=registry,
        )
        self.batch_rows = Histogram("ingress_writer_batch_rows", "Rows a batch", buckets=_ROWS, registry=registry)
        self.batch_seconds = Histogram(
            "ingress_writer_batch_seconds", "Time of a successful write", buckets=_SECONDS, registry=registry
        )
        self.lag = Gauge(
            "ingress_writer_store_lag_seconds",
            "From the gateway's receipt of the newest row of the last batch to its commit",
            registry=registry,
        )
        self.in_hand = Gauge("ingress_writer_in_hand", "Rows taken and not yet in the store", registry=registry)
        self.in_hand_limit = Gauge("ingress_writer_in_hand_limit", "Bound of the batch in hand", registry=registry)
        self.queued = Gauge("ingress_writer_queued", "Messages between bus and batch", registry=registry)
        self.queue_limit = Gauge("ingress_writer_queue_limit", "Bound of that queue", registry=registry)
