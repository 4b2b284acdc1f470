"""Metrics of the aggregator."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from ingress_common.model import Candle


class AggregatorMetrics:
    """What came in, what was published, what is missing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ticks = Counter("ingress_aggregator_ticks", "Raw ticks received", registry=registry)
        self.batches = Counter("ingress_aggregator_history_batches", "History batches received", registry=registry)
        self.watermarks = Counter("ingress_aggregator_watermarks", "Watermarks received", registry=registry)
        self.dead_letters = Counter(
            "ingress_aggregator_dead_letters", "Messages that could not be used", registry=registry
        )
        self.strays = Counter(
            "ingress_aggregator_stray_watermarks", "Watermarks of feeds that nobody has told of", registry=registry
        )
        self.stale = Gauge(
            "ingress_aggregator_stale", "Rows of windows that are long forgotten, over all symbols", registry=registry
        )
        self.refused = Counter("ingress_aggregator_refused", "Messages that the broker refused", registry=registry)
        self._candles = Counter(
            "ingress_aggregator_candles",
            "Candles published, by kind: closed, infilled, corrected, forming",
            ("timeframe", "kind"),
            registry=registry,
        )
        self.symbols = Gauge("ingress_aggregator_symbols", "Symbols looked after", registry=registry)
        self.held = Gauge(
            "ingress_aggregator_held_windows", "Windows that are over but wait for data", registry=registry
        )
        self.gaps = Gauge("ingress_aggregator_gapped_symbols", "Symbols with gaps", registry=registry)
        self.gap_seconds = Gauge(
            "ingress_aggregator_gap_seconds", "Market time missing, over all symbols", registry=registry
        )

    def published(self, candle: Candle) -> None:
        """Count a candle that is being published."""
        if not candle.closed:
            kind = "forming"
        elif candle.revision:
            kind = "corrected"
        else:
            kind = "infilled" if candle.infilled else "closed"
        self._candles.labels(candle.timeframe.value, kind).inc()
