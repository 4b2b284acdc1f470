"""The gateway's metrics; names begin with `ingress_gateway_`."""

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge


class GatewayMetrics:
    """Metrics of everything between Kraken and the bus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.frames = self._counter("frames", "Frames received, by kind", "kind")
        self._frame_kinds: dict[str, Counter] = {}
        self.ticks = self._counter("ticks", "Raw 1m candles published")
        self.conflated = self._counter("updates_conflated", "Updates skipped because a later, cumulative one waits")
        self.history = self._counter("history_batches", "History batches published, by source", "source")
        self.history_rows = self._counter("history_rows", "Rows in the history batches, by source", "source")
        self.dead_letters = self._counter("dead_letters", "Messages that were dead-lettered")
        self.refused_messages = self._counter("messages_refused", "Messages that the broker has refused")
        self.stray_rows = self._counter("stray_rows", "Rows of symbols that are no longer followed")
        self.connects = self._counter("connects", "Connection attempts to Kraken, by purpose", "purpose")
        self.losses = self._counter("connection_losses", "Ended connections to Kraken, by reason", "reason")
        self.attempts = self._gauge("connection_attempts", "Connection attempts in the last 10 minutes")
        self.attempts_limit = self._gauge("connection_attempts_limit", "Connection attempts allowed in 10 minutes")
        self.feed_live = self._gauge("feed_live", "Whether a feed is live (0 or 1)", "feed")
        self.feed_symbols = self._gauge("feed_symbols", "Symbols that a feed covers", "feed")
        self.feed_backlog = self._gauge("feed_backlog_frames", "Frames received and not yet published", "feed")
        self.feed_lag = self._gauge(
            "feed_lag_seconds", "How long the oldest frame that is not yet published has waited", "feed"
        )
        self.watermark_lag = self._gauge("watermark_lag_seconds", "Age of the feed's watermark", "feed")
        self.skew = self._gauge("clock_skew_seconds", "Seconds that this clock is ahead of Kraken's")
        self.inactivity = self._gauge(
            "longest_inactivity_seconds",
            "Seconds since the last update of the feed's most inactive symbol",
            "feed",
        )
        self.rejected = self._gauge("rejected_symbols", "Symbols that Kraken rejects")
        self.suspect = self._gauge("suspect_symbols", "Symbols that are inactive for longer than is usual for them")
        self.excluded = self._gauge("excluded_symbols", "Symbols left out of the coverage until they are verified")
        self.stale = self._gauge("stale_subscriptions", "Symbols whose subscription is stale at present")
        self.stale_found = self._counter("stale_subscriptions_found", "Subscriptions that were found stale")
        self.missed = self._counter("missed_trades", "Times a symbol's live feed was found to have missed trades")
        self.verifications = self._counter(
            "verifications", "Symbols compared with an independent reading, by outcome", "outcome"
        )
        self.seeds_pending = self._gauge("seeds_pending", "Snapshots requested and not yet published")
        self.snapshot_retries = self._counter("snapshot_retries", "Snapshot requests that were retried")
        self.backfill_pending = self._gauge("backfill_pending", "History ranges requested and not yet published")
        self.backfill_oldest = self._gauge(
            "backfill_oldest_seconds", "Age of the oldest history request that is not yet published"
        )
        self.backfill_pages = self._counter("backfill_pages", "Pages of trades read for history")
        self.requests_refused = self._counter("requests_refused", "Requests for too large a range or impossible times")
        self.requests_unanswerable = self._counter("requests_unanswerable", "Requests for pairs unknown to Kraken")
        self.rest_requests = self._counter("rest_requests", "REST calls, by endpoint", "endpoint")
        self.rest_retries = self._counter("rest_retries", "REST calls that are retried")
        self._watermarks: dict[str, float] = {}
        self._known_feeds: set[str] = set()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ingress_gateway_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"ingress_gateway_{name}", text, labels, registry=self._registry)

    def count_frame(self, label: str) -> None:
        """Count a received frame of a kind (`protocol.Frame`)."""
        counter = self._frame_kinds.get(label)
        if counter is None:
            counter = self._frame_kinds[label] = self.frames.labels(label)
        counter.inc()

    def watermark(self, feed: str, watermark: float | None, now: float) -> None:
        """Set how far `feed` is behind at `now` (unix seconds, Kraken's time).

        Without a connection its last watermark counts.
        """
        # A feed that was never live is down, not absent.
        self.feed_live.labels(feed)
        if watermark is not None:
            self._watermarks[feed] = watermark
        if feed in self._watermarks:
            self.watermark_lag.labels(feed).set(now - self._watermarks[feed])

    def keep_feeds(self, names: Collection[str]) -> None:
        """Forget the feeds that are not among `names`: they are gone, not down."""
        gauges = (self.feed_live, self.feed_symbols, self.feed_backlog, self.feed_lag, self.watermark_lag)
        for gone in self._known_feeds - set(names):
            self._watermarks.pop(gone, None)
            for gauge in (*gauges, self.inactivity):
                gauge.remove(gone)
        self._known_feeds = set(names)
