"""Metrics of influx-writer."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from influx_writer.intake import PendingRow, Reason, RowKind

_ROWS = (1, 10, 50, 100, 500, 1000, 2000, 5000, 10000)
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_WAY_SECONDS = (0.1, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 30, 60, 300)

LIVE_SECONDS = 10.0
"""A candle is live if the gateway received its last data within this time after its end, and the writer received the
candle within this time after that. A later one was seeded, repaired, queued at the broker or republished: its age is no
latency.
"""


class WriterMetrics:
    """The writer's own metrics; `kind` is candle, forming or tick."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.received = Counter(
            "ingress_writer_received", "Rows taken from the bus, by kind", ("kind",), registry=registry
        )
        self.written = Counter("ingress_writer_written", "Rows in the store, by kind", ("kind",), registry=registry)
        self.rejected = Counter("ingress_writer_rejected", "Rows that the store rejected", registry=registry)
        self.passed_over = Counter(
            "ingress_writer_forming_passed_over", "Forming candles for which a newer one was written", registry=registry
        )
        self.dead_letters = Counter(
            "ingress_writer_dead_letters", "Messages that were dead-lettered, by reason", ("reason",), registry=registry
        )
        self.dead_letter_failures = Counter(
            "ingress_writer_dead_letter_failures", "Dead letters that the broker refused", registry=registry
        )
        self.rejected_statuses = Counter(
            "ingress_writer_rejected_statuses", "Invalid status messages of writers", registry=registry
        )
        self.retries = Counter(
            "ingress_writer_retries", "Failed writes of a batch, which are retried", registry=registry
        )
        self.missing = Gauge(
            "ingress_writer_missing_candles",
            "Closed candles that are missing by their sequence numbers",
            registry=registry,
        )
        self.republish_requests = Counter(
            "ingress_writer_republish_requests",
            "Requests to republish closed candles",
            registry=registry,
        )
        self.symbols = Gauge("ingress_writer_symbols", "Symbols to which this writer is subscribed", registry=registry)
        self.batch_rows = Histogram("ingress_writer_batch_rows", "Rows a batch", buckets=_ROWS, registry=registry)
        self.batch_seconds = Histogram(
            "ingress_writer_batch_seconds", "Time of a successful write", buckets=_SECONDS, registry=registry
        )
        close_to_store = Histogram(
            "ingress_writer_close_to_store_seconds",
            "From the end of a closed candle's window to the commit, of first versions, by way: live (received and "
            "taken within 10 s each), late (seeded, repaired, kept by the broker, republished)",
            ("way",),
            buckets=_WAY_SECONDS,
            registry=registry,
        )
        receipt_to_store = Histogram(
            "ingress_writer_receipt_to_store_seconds",
            "From the gateway's receipt of what led to a row (its `at`) to the commit, of rows taken within 10 s, "
            "by kind",
            ("kind",),
            buckets=_WAY_SECONDS,
            registry=registry,
        )
        self.lag = Gauge(
            "ingress_writer_store_lag_seconds",
            "From the gateway's receipt of the newest tick of the last batch that has ticks to its commit",
            registry=registry,
        )
        self.in_hand = Gauge("ingress_writer_in_hand", "Rows taken and not yet in the store", registry=registry)
        self.in_hand_limit = Gauge("ingress_writer_in_hand_limit", "Maximum rows in memory", registry=registry)
        # A counter that appears with its first event shows no increase then. And to look up a label for each row costs
        # more than to count it.
        self._received = {kind: self.received.labels(kind.value) for kind in RowKind}
        for reason in Reason:
            self.dead_letters.labels(reason.value)
        self._written = {kind: self.written.labels(kind.value) for kind in RowKind}
        self._of_kind = {kind: receipt_to_store.labels(kind.value) for kind in RowKind}
        self._live, self._late = close_to_store.labels("live"), close_to_store.labels("late")

    def count(self, kind: RowKind) -> None:
        """Count a row taken from the bus."""
        self._received[kind].inc()

    def committed(self, kind: RowKind, rows: Sequence[PendingRow], now: float) -> None:
        """Count rows of one kind that were committed at `now` (unix seconds)."""
        if not rows:
            return
        self._written[kind].inc(len(rows))
        # Ticks are never republished, so their age shows the latency.
        if kind is RowKind.TICK:
            self.lag.set(now - max(row.candle.at for row in rows))
        receipt_to_store = self._of_kind[kind]
        for candle, _, taken_at in rows:
            timely = taken_at - candle.at <= LIVE_SECONDS
            # Clocks of two machines differ: a negative latency counts as none.
            if timely:
                receipt_to_store.observe(max(0.0, now - candle.at))
            if kind is RowKind.CANDLE and not candle.revision:
                live = timely and candle.at - candle.close_time <= LIVE_SECONDS
                (self._live if live else self._late).observe(max(0.0, now - candle.close_time))
