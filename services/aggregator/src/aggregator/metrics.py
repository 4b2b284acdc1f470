"""Metrics of the aggregator."""

from collections.abc import Mapping
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ingress_common.model import Candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)


class PublicationKind(StrEnum):
    """Why a candle is published."""

    FORMING = "forming"
    CLOSED = "closed"
    INFILLED = "infilled"
    CORRECTED = "corrected"
    REPEATED = "repeated"
    REBUILT = "rebuilt"


_NEWS = (PublicationKind.FORMING, PublicationKind.CLOSED, PublicationKind.INFILLED)


def kind_of_update(candle: Candle) -> PublicationKind:
    """The kind of a candle that follows from a tick or a watermark."""
    if not candle.closed:
        return PublicationKind.FORMING
    if candle.revision:
        return PublicationKind.CORRECTED
    return PublicationKind.INFILLED if candle.infilled else PublicationKind.CLOSED


def kind_of_response(candle: Candle, at: float, looked_after_from: Mapping[Timeframe, int]) -> PublicationKind:
    """The kind of a candle that follows from history received `at` (unix seconds).

    `looked_after_from`: the first window of each timeframe that the aggregator still keeps.
    """
    if candle.open_time < looked_after_from.get(candle.timeframe, candle.open_time):
        return PublicationKind.REBUILT
    return PublicationKind.REPEATED if candle.at < at else kind_of_update(candle)


class AggregatorMetrics:
    """Metrics of received messages, published candles and gaps."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ticks = Counter("ingress_aggregator_ticks", "Raw ticks received", registry=registry)
        self.batches = Counter("ingress_aggregator_history_batches", "History batches received", registry=registry)
        self.watermarks = Counter("ingress_aggregator_watermarks", "Watermarks received", registry=registry)
        self.dead_letters = Counter(
            "ingress_aggregator_dead_letters", "Messages that were dead-lettered", registry=registry
        )
        self.strays = Counter("ingress_aggregator_stray_watermarks", "Watermarks of unknown feeds", registry=registry)
        self.lost_updates = Counter(
            "ingress_aggregator_lost_updates",
            "Minutes of symbols with updates lost between gateway and aggregator; their history is requested",
            registry=registry,
        )
        self.forgotten_rows = Gauge(
            "ingress_aggregator_forgotten_rows",
            "Rows received for windows that are too old to be remembered, over all symbols",
            registry=registry,
        )
        self.refused = Counter("ingress_aggregator_refused", "Messages that the broker refused", registry=registry)
        self.displaced_requests = Counter(
            "ingress_aggregator_displaced_requests",
            "Requests to republish whose symbol had too many: its candles are republished, without the request's name",
            registry=registry,
        )
        self.republishing = Gauge(
            "ingress_aggregator_republishing_symbols",
            "Symbols whose closed candles are requested and not yet republished",
            registry=registry,
        )
        candles = Counter(
            "ingress_aggregator_candles",
            "Candles published, by kind: forming, closed, infilled, corrected; repeated (unchanged, on request or "
            "after a reconnect), rebuilt (from history beyond the aggregator's memory)",
            ("timeframe", "kind"),
            registry=registry,
        )
        latency = Histogram(
            "ingress_aggregator_publish_latency_seconds",
            "From the gateway's receipt of the tick, watermark or history that led to a candle (its `at`) to its "
            "publication, by kind: forming, closed, infilled",
            ("kind",),
            buckets=_SECONDS,
            registry=registry,
        )
        # A counter that appears with its first event shows no increase then. And to look up a label for each candle
        # costs more than to count it.
        self._candles = {
            (tf, kind): candles.labels(tf.value, kind.value) for tf in TIMEFRAMES for kind in PublicationKind
        }
        self._latency = {kind: latency.labels(kind.value) for kind in _NEWS}
        self.symbols = Gauge("ingress_aggregator_symbols", "Symbols maintained", registry=registry)
        self.pending_windows = Gauge(
            "ingress_aggregator_pending_windows", "Windows that are over but wait for data", registry=registry
        )
        self.gaps = Gauge("ingress_aggregator_gapped_symbols", "Symbols with gaps", registry=registry)
        self.gap_seconds = Gauge(
            "ingress_aggregator_gap_seconds", "Market time missing, over all symbols", registry=registry
        )

    def published(self, candle: Candle, kind: PublicationKind, now: float) -> None:
        """Count a candle that is handed to the bus at `now` (unix seconds)."""
        self._candles[candle.timeframe, kind].inc()
        if kind in _NEWS:
            # Clocks of two machines differ: a negative latency counts as none.
            self._latency[kind].observe(max(0.0, now - candle.at))
