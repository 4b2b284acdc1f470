"""The gateway's metrics; names begin with `ingress_gateway_`."""

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge


class GatewayMetrics:
    """What goes on between Kraken and the bus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.frames = Counter("ingress_gateway_frames", "Frames received, by kind", ["kind"], registry=registry)
        self.ticks = Counter("ingress_gateway_ticks", "Raw 1m ticks published", registry=registry)
        self.history = Counter(
            "ingress_gateway_history_batches", "History batches published, by source", ["source"], registry=registry
        )
        self.history_rows = Counter(
            "ingress_gateway_history_rows", "Rows in the history batches, by source", ["source"], registry=registry
        )
        self.dead_letters = Counter(
            "ingress_gateway_dead_letters", "Messages that could not be used", registry=registry
        )
        self.stray_rows = Counter(
            "ingress_gateway_stray_rows", "Rows of symbols that were just given up", registry=registry
        )
        self.connects = Counter(
            "ingress_gateway_connects", "Connections made to Kraken, by purpose", ["purpose"], registry=registry
        )
        self.losses = Counter(
            "ingress_gateway_connection_losses", "Live connections ended, by reason", ["reason"], registry=registry
        )
        self.budget_used = Gauge(
            "ingress_gateway_connection_attempts", "Connection attempts in the last 10 minutes", registry=registry
        )
        self.budget_limit = Gauge(
            "ingress_gateway_connection_attempts_limit", "Connection attempts allowed in 10 minutes", registry=registry
        )
        self.feed_live = Gauge(
            "ingress_gateway_feed_live", "Whether a feed is live (0 or 1)", ["feed"], registry=registry
        )
        self.feed_symbols = Gauge(
            "ingress_gateway_feed_symbols", "Symbols that a feed speaks for", ["feed"], registry=registry
        )
        self.watermark_lag = Gauge(
            "ingress_gateway_watermark_lag_seconds",
            "Now less the feed's watermark, in Kraken's time",
            ["feed"],
            registry=registry,
        )
        self.skew = Gauge(
            "ingress_gateway_clock_skew_seconds",
            "Seconds that this clock is ahead of Kraken's",
            ["feed"],
            registry=registry,
        )
        self.quietest = Gauge(
            "ingress_gateway_longest_silence_seconds",
            "Seconds since the last tick of the feed's symbol that has been silent longest",
            ["feed"],
            registry=registry,
        )
        self.rejected = Gauge("ingress_gateway_rejected_symbols", "Symbols that Kraken refuses", registry=registry)
        self.missed = Counter(
            "ingress_gateway_missed_trades",
            "Symbols found to have trades that their feed had not",
            registry=registry,
        )
        self.doubted = Gauge(
            "ingress_gateway_doubted_symbols", "Symbols that are quiet longer than is usual for them", registry=registry
        )
        self.withheld = Gauge(
            "ingress_gateway_withheld_symbols", "Symbols left out of the claims because of a doubt", registry=registry
        )
        self.checks = Counter(
            "ingress_gateway_doubt_checks",
            "Cross-checks of symbols in doubt by REST, by outcome",
            ["outcome"],
            registry=registry,
        )
        self.blind = Counter(
            "ingress_gateway_blind_symbols", "Symbols that a connection was found blind for", registry=registry
        )
        self.seeds_pending = Gauge(
            "ingress_gateway_seeds_pending", "Snapshots asked for and not yet answered", registry=registry
        )
        self.history_pending = Gauge(
            "ingress_gateway_history_pending", "History ranges asked for and not yet answered", registry=registry
        )
        self.history_oldest = Gauge(
            "ingress_gateway_history_oldest_seconds",
            "Age of the oldest history request that is not answered yet",
            registry=registry,
        )
        self.history_pages = Counter(
            "ingress_gateway_history_pages", "Pages of trades read for history", registry=registry
        )
        self.refused = Counter(
            "ingress_gateway_requests_refused",
            "Requests that ask for too much, or for times that cannot be",
            registry=registry,
        )
        self.unanswerable = Counter(
            "ingress_gateway_requests_unanswerable", "Requests for what Kraken does not have", registry=registry
        )
        self.rest_requests = Counter(
            "ingress_gateway_rest_requests", "REST calls, by endpoint", ["endpoint"], registry=registry
        )
        self.rest_retries = Counter("ingress_gateway_rest_retries", "REST calls to be made again", registry=registry)
        self.rest_seeds = Counter(
            "ingress_gateway_rest_seeds",
            "Snapshots answered from REST instead, to spare connections",
            registry=registry,
        )
        self.seed_retries = Counter("ingress_gateway_seed_retries", "Snapshot rounds that failed", registry=registry)
        self._watermarks: dict[str, float] = {}
        self._known_feeds: set[str] = set()

    def feed(self, name: str, longest_silence: float, watermark: float | None, now: float) -> None:
        """How a feed is at `now` (unix seconds, Kraken's time).

        One without a connection falls behind, by the last watermark it had.
        """
        # One that was never live is down, not absent.
        self.feed_live.labels(name)
        self.quietest.labels(name).set(longest_silence)
        if watermark is not None:
            self._watermarks[name] = watermark
        if name in self._watermarks:
            self.watermark_lag.labels(name).set(now - self._watermarks[name])

    def keep_feeds(self, names: Collection[str]) -> None:
        """Forget the feeds that are not among `names`: they are gone, not down."""
        per_feed = (self.feed_live, self.feed_symbols, self.watermark_lag, self.skew, self.quietest)
        for gone in self._known_feeds - set(names):
            self._watermarks.pop(gone, None)
            for gauge in per_feed:
                gauge.remove(gone)
        self._known_feeds = set(names)
