"""The contents of the Grafana dashboard, in rows from the feeds to the browser."""

from panels import Panel, PanelRow, Query, Steps, dashboard_json

_GREEN_RED: Steps = [{"color": "red", "value": None}, {"color": "green", "value": 1}]
_CALM_ALARM: Steps = [{"color": "green", "value": None}, {"color": "red", "value": 1}]
_WELL = {"0": {"text": "failing", "color": "red"}, "1": {"text": "ok", "color": "green"}}
_LIVE_P50 = 'ingress:close_to_store_seconds:p50{way="live"}'
_LIVE_P99 = 'ingress:close_to_store_seconds:p99{way="live"}'
_CLOSED = 'ingress:candles_published:rate5m{kind=~"closed|infilled"}'
_CLOSED_MINUTES = 'ingress:candles_published:rate5m{timeframe="1m",kind=~"closed|infilled"}'
_INFILLED_MINUTES = 'ingress:candles_published:rate5m{timeframe="1m",kind="infilled"}'


def _number(title: str, text: str, expression: str, unit: str = "short", steps: Steps | None = None) -> Panel:
    return Panel(title, text, (Query(expression),), unit, "stat", 4, 4, steps or [])


def _panel(title: str, text: str, *queries: tuple[str, str], unit: str = "short", stacked: bool = False) -> Panel:
    return Panel(title, text, tuple(Query(*query) for query in queries), unit, stacked=stacked)


def _rate(metric: str, by: str = "") -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))" if by else f"sum(rate({metric}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str) -> str:
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({metric}_bucket[$__rate_interval])))"


ROWS = (
    PanelRow(
        "Overview",
        (
            Panel(
                "Health",
                "The checks of GET /health",
                (Query("min by (check) (ingress_health_check)", "{{check}}"),),
                kind="stat",
                width=24,
                height=5,
                steps=_GREEN_RED,
                values=_WELL,
            ),
            _number(
                "Alerts firing",
                "Every alert is in docs/operations.md",
                'count(ALERTS{alertstate="firing"}) or vector(0)',
                steps=_CALM_ALARM,
            ),
            _number("Live feeds", "Live connections to Kraken", "sum(ingress_gateway_feed_live)", steps=_GREEN_RED),
            _number("Symbols", "Symbols owned by aggregators", "sum(ingress_aggregator_symbols)"),
            _number(
                "Watermark lag",
                "Lag of the slowest feed; 1 to 3 s are normal",
                "max(ingress_gateway_watermark_lag_seconds)",
                "s",
            ),
            _number("Close to store, p99", "Time from the end of a window to the commit", f"max({_LIVE_P99})", "s"),
            _number("Gaps", "Open gaps in the store", "sum(ingress_gaps)", steps=_CALM_ALARM),
            Panel(
                "Alerts",
                "Firing and pending alerts",
                (Query("ALERTS", "{{alertname}} {{alertstate}} {{job}} {{instance}}"),),
                kind="timeseries",
                width=12,
            ),
            Panel(
                "Instances",
                "Containers that respond on /metrics, by service",
                (Query('sum by (job) (up{job!="prometheus"})', "{{job}}"),),
                width=12,
            ),
        ),
    ),
    PanelRow(
        "Pipeline",
        (
            _panel(
                "Received from Kraken",
                "Frames by kind",
                (_rate("ingress_gateway_frames_total", "kind"), "{{kind}}"),
                unit="cps",
            ),
            _panel(
                "Ticks by stage",
                "Published by gateways, received by aggregators, stored by writers; the lines coincide if all is well",
                (_rate("ingress_gateway_ticks_total"), "gateway"),
                (_rate("ingress_aggregator_ticks_total"), "aggregator"),
                (_rate('ingress_writer_written_total{kind="tick"}'), "writer"),
                unit="cps",
            ),
            _panel(
                "Candles published",
                "By kind, over all timeframes",
                ("sum by (kind) (ingress:candles_published:rate5m)", "{{kind}}"),
                unit="cps",
                stacked=True,
            ),
            _panel(
                "Closed by timeframe",
                "Closed and infilled",
                (f"sum by (timeframe) ({_CLOSED})", "{{timeframe}}"),
                unit="cps",
            ),
            _panel(
                "Share of infilled minutes",
                "1m candles without trades",
                (f"sum({_INFILLED_MINUTES}) / sum({_CLOSED_MINUTES})", "infilled"),
                unit="percentunit",
            ),
            _panel(
                "Dead letters",
                "Rejected messages, by service",
                ("sum by (service) (increase(ingress_dead_letters_total[5m]))", "{{service}}"),
                ("sum(ingress_dead_letters_kept)", "kept"),
            ),
        ),
    ),
    PanelRow(
        "Latency",
        (
            _panel(
                "Receipt to publication",
                "Time from the gateway's receipt of a message to the publication of its candle",
                (_quantile(0.5, "ingress_aggregator_publish_latency_seconds", "kind"), "{{kind}} p50"),
                (_quantile(0.99, "ingress_aggregator_publish_latency_seconds", "kind"), "{{kind}} p99"),
                unit="s",
            ),
            _panel(
                "Close to store",
                "Time from the end of a window to the commit, for candles closed live",
                (_LIVE_P50, "p50"),
                (_LIVE_P99, "p99"),
                unit="s",
            ),
            _panel(
                "Receipt to store, p99",
                "By kind of row",
                ("ingress:receipt_to_store_seconds:p99", "{{kind}}"),
                unit="s",
            ),
            _panel(
                "Watermark lag",
                "Measured by the gateway",
                ("ingress_gateway_watermark_lag_seconds", "{{feed}}"),
                unit="s",
            ),
            _panel(
                "Freshness of symbols",
                "Time since the receipt of the newest 1m candle's message",
                ("max(ingress_symbol_age_seconds)", "oldest"),
                ("quantile(0.5, ingress_symbol_age_seconds)", "median"),
                unit="s",
            ),
            _panel(
                "Clock skew",
                "Lead of the gateway's clock over Kraken's",
                ("ingress_gateway_clock_skew_seconds", "{{instance}}"),
                unit="s",
            ),
        ),
    ),
    PanelRow(
        "Feeds",
        (
            _panel("Feeds", "1: live, 0: down", ("ingress_gateway_feed_live", "{{feed}}")),
            _panel("Symbols by feed", "Covered symbols", ("ingress_gateway_feed_symbols", "{{feed}}"), stacked=True),
            _panel(
                "Connections ended",
                "By reason, in 10 minutes",
                ("sum by (reason) (increase(ingress_gateway_connection_losses_total[10m]))", "{{reason}}"),
            ),
            _panel(
                "Connection attempts",
                "Share of the gateway's limit for 10 minutes",
                ("ingress:connection_attempts:ratio", "{{instance}}"),
                unit="percentunit",
            ),
            _panel(
                "Subscriptions",
                "Suspect: unusually long inactive; excluded: not covered until verified; stale: deliver nothing",
                ("sum(ingress_gateway_suspect_symbols)", "suspect"),
                ("sum(ingress_gateway_excluded_symbols)", "excluded"),
                ("sum(ingress_gateway_stale_subscriptions)", "stale"),
                ("sum(ingress_gateway_rejected_symbols)", "rejected"),
            ),
            _panel(
                "Longest inactivity",
                "Time since the last update of the feed's most inactive symbol",
                ("ingress_gateway_longest_inactivity_seconds", "{{feed}}"),
                unit="s",
            ),
            _panel(
                "Feed lag",
                "Age of the oldest unpublished frame",
                ("ingress_gateway_feed_lag_seconds", "{{feed}}"),
                unit="s",
            ),
        ),
    ),
    PanelRow(
        "Store",
        (
            _panel("Rows written", "By kind", ("ingress:rows_written:rate5m", "{{kind}}"), unit="cps"),
            _panel(
                "Store lag",
                "Age of the newest row at its commit",
                ("ingress_writer_store_lag_seconds", "{{instance}}"),
                unit="s",
            ),
            _panel(
                "Write time",
                "Duration of a successful batch",
                (_quantile(0.5, "ingress_writer_batch_seconds", "instance"), "{{instance}} p50"),
                (_quantile(0.99, "ingress_writer_batch_seconds", "instance"), "{{instance}} p99"),
                unit="s",
            ),
            _panel(
                "Retried, rejected, missing",
                "In 5 minutes; missing: published and not arrived",
                ("sum(increase(ingress_writer_retries_total[5m]))", "batches retried"),
                ("sum(increase(ingress_writer_rejected_total[5m]))", "rows rejected"),
                ("sum(ingress_writer_missing_candles)", "candles missing"),
                ("sum(increase(ingress_writer_republish_requests_total[5m]))", "requests for them"),
            ),
            _panel(
                "Rows in memory",
                "Received and not yet in the store",
                ("ingress_writer_in_hand", "{{instance}}"),
                ("max(ingress_writer_in_hand_limit)", "limit"),
            ),
            _panel(
                "Tasks of InfluxDB",
                "Time since the last completed run was due",
                ("ingress_task_last_run_age_seconds", "{{task}}"),
                unit="s",
            ),
        ),
    ),
    PanelRow(
        "Repair",
        (
            _panel(
                "Gaps in the store",
                "By state of their repair",
                ("sum by (state) (ingress_gaps)", "{{state}}"),
                ("sum(ingress_gap_windows)", "candles missing"),
            ),
            _panel(
                "Gaps in the aggregators",
                "Symbols with gaps, and pending windows",
                ("sum(ingress_aggregator_gapped_symbols)", "symbols"),
                ("sum(ingress_aggregator_pending_windows)", "windows pending"),
            ),
            _panel(
                "Repair",
                "In 5 minutes",
                ("sum(increase(ingress_repair_requests_total[5m]))", "requests"),
                ("sum(increase(ingress_repair_filled_total[5m]))", "windows filled"),
                ("sum(increase(ingress_repair_attempts_failed_total[5m]))", "without result"),
            ),
            _panel(
                "Self-check",
                "Comparisons with Kraken in 15 minutes, and minutes that still differ",
                ("sum by (outcome) (increase(ingress_self_checks_total[15m]))", "{{outcome}}"),
                ("sum(ingress_self_check_unrepaired)", "not repaired"),
            ),
            _panel(
                "REST",
                "Calls by endpoint, and retries",
                (_rate("ingress_gateway_rest_requests_total", "endpoint"), "{{endpoint}}"),
                (_rate("ingress_gateway_rest_retries_total"), "retries"),
                unit="reqps",
            ),
            _panel(
                "History requests",
                "Pending ranges, and the age of the oldest",
                ("sum(ingress_gateway_backfill_pending)", "ranges"),
                ("max(ingress_gateway_backfill_oldest_seconds)", "oldest, s"),
            ),
        ),
    ),
    PanelRow(
        "Bus",
        (
            _panel(
                "Messages received",
                "By service",
                (_rate("ingress_bus_received_total", "service"), "{{service}}"),
                unit="cps",
            ),
            _panel(
                "Messages published",
                "Confirmed by the broker, by service",
                (_rate("ingress_bus_published_total", "service"), "{{service}}"),
                unit="cps",
            ),
            _panel(
                "Queue fill",
                "Share of each queue's limit",
                ("ingress:queue_fill:ratio", "{{instance}} {{queue}}"),
                unit="percentunit",
            ),
            _panel(
                "Connected",
                "1 if all broker connections are up",
                ("ingress_bus_connected", "{{service}} {{instance}}"),
            ),
            _panel(
                "Dropped and refused",
                "In 5 minutes",
                ("sum by (service, reason) (increase(ingress_bus_dropped_total[5m]))", "{{service}} {{reason}}"),
                ("sum by (service) (increase(ingress_bus_publish_failures_total[5m]))", "{{service}} refused"),
            ),
            _panel(
                "Memory",
                "Resident memory of each process",
                ('process_resident_memory_bytes{job!="prometheus"}', "{{instance}}"),
                unit="bytes",
            ),
        ),
    ),
    PanelRow(
        "HTTP",
        (
            _panel(
                "Requests",
                "By route and status",
                (_rate("ingress_admin_requests_total", "route, status"), "{{route}} {{status}}"),
                unit="reqps",
            ),
            _panel(
                "Response time, p99",
                "Time from a request's arrival to the head of its response, by route",
                (_quantile(0.99, "ingress_admin_request_seconds", "route"), "{{route}}"),
                unit="s",
            ),
            _panel(
                "Event streams",
                "Open, and the limit",
                ("sum(ingress_admin_streams)", "open"),
                ("sum(ingress_admin_streams_limit)", "limit"),
            ),
            _panel(
                "Streams ended, requests refused",
                "In 5 minutes",
                ("sum by (reason) (increase(ingress_admin_streams_ended_total[5m]))", "ended: {{reason}}"),
                ("sum(increase(ingress_admin_streams_refused_total[5m]))", "streams refused"),
                ("sum by (status) (increase(ingress_admin_refused_total[5m]))", "requests refused {{status}}"),
            ),
        ),
    ),
)


def dashboard_text() -> str:
    """The dashboard as JSON for Grafana."""
    return dashboard_json(ROWS)
