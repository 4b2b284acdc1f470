"""The Grafana dashboard: what is shown, in rows, from the feeds to the browser."""

from panels import Panel, Query, Row, Steps, dashboard_json

_GREEN_RED: Steps = [{"color": "red", "value": None}, {"color": "green", "value": 1}]
_CALM_ALARM: Steps = [{"color": "green", "value": None}, {"color": "red", "value": 1}]
_WELL = {"0": {"text": "failing", "color": "red"}, "1": {"text": "well", "color": "green"}}
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
    Row(
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
            _number(
                "Live feeds", "Connections to Kraken that deliver", "sum(ingress_gateway_feed_live)", steps=_GREEN_RED
            ),
            _number("Symbols", "Looked after by aggregators", "sum(ingress_aggregator_symbols)"),
            _number(
                "Watermark lag",
                "Of the feed that is furthest behind; 1 to 3 s are usual",
                "max(ingress_gateway_watermark_lag_seconds)",
                "s",
            ),
            _number("Close to store, p99", "From the end of a window to the commit", f"max({_LIVE_P99})", "s"),
            _number("Gaps", "Gaps of the store that are looked after", "sum(ingress_gaps)", steps=_CALM_ALARM),
            Panel(
                "Alerts",
                "What fires or is about to",
                (Query("ALERTS", "{{alertname}} {{alertstate}} {{job}} {{instance}}"),),
                kind="timeseries",
                width=12,
            ),
            Panel(
                "Instances",
                "Containers that answer on /metrics, by service",
                (Query('sum by (job) (up{job!="prometheus"})', "{{job}}"),),
                width=12,
            ),
        ),
    ),
    Row(
        "Pipeline",
        (
            _panel(
                "Received from Kraken",
                "Frames by kind",
                (_rate("ingress_gateway_frames_total", "kind"), "{{kind}}"),
                unit="cps",
            ),
            _panel(
                "Ticks on their way",
                "Published by the gateways, taken by the aggregators, stored by the writers: one line if all is well",
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
                "Put aside",
                "Messages that could not be used, by service",
                ("sum by (service) (increase(ingress_dead_letters_total[5m]))", "{{service}}"),
                ("sum(ingress_dead_letters_held)", "kept for a look"),
            ),
        ),
    ),
    Row(
        "Latency",
        (
            _panel(
                "Receipt to publication",
                "From the gateway's receipt of the cause to the publication of the candle",
                (_quantile(0.5, "ingress_aggregator_publish_latency_seconds", "kind"), "{{kind}} p50"),
                (_quantile(0.99, "ingress_aggregator_publish_latency_seconds", "kind"), "{{kind}} p99"),
                unit="s",
            ),
            _panel(
                "Close to store",
                "From the end of a window to the commit, of candles closed live",
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
                "As the gateway measures it",
                ("ingress_gateway_watermark_lag_seconds", "{{feed}}"),
                unit="s",
            ),
            _panel(
                "Freshness of symbols",
                "Since the receipt of what led to the newest 1m candle",
                ("max(ingress_symbol_age_seconds)", "oldest"),
                ("quantile(0.5, ingress_symbol_age_seconds)", "median"),
                unit="s",
            ),
            _panel(
                "Clock",
                "Seconds that the gateway's clock is ahead of Kraken's",
                ("ingress_gateway_clock_skew_seconds", "{{instance}} {{feed}}"),
                unit="s",
            ),
        ),
    ),
    Row(
        "Feeds",
        (
            _panel("Feeds", "1 is live", ("ingress_gateway_feed_live", "{{feed}}")),
            _panel(
                "Symbols of a feed", "That it speaks for", ("ingress_gateway_feed_symbols", "{{feed}}"), stacked=True
            ),
            _panel(
                "Connections ended",
                "By reason, in 10 minutes",
                ("sum by (reason) (increase(ingress_gateway_connection_losses_total[10m]))", "{{reason}}"),
            ),
            _panel(
                "Connection budget",
                "Share of the attempts that Kraken allows in 10 minutes",
                ("ingress:connection_budget:ratio", "{{instance}}"),
                unit="percentunit",
            ),
            _panel(
                "Symbols in doubt",
                "Quieter than usual; withheld: left out of the claims until REST has confirmed it; rejected by Kraken",
                ("sum(ingress_gateway_doubted_symbols)", "doubted"),
                ("sum(ingress_gateway_withheld_symbols)", "withheld"),
                ("sum(ingress_gateway_rejected_symbols)", "rejected"),
            ),
            _panel(
                "Longest silence",
                "Of the quietest symbol of a feed",
                ("ingress_gateway_longest_silence_seconds", "{{feed}}"),
                unit="s",
            ),
        ),
    ),
    Row(
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
                "Of a successful batch",
                (_quantile(0.5, "ingress_writer_batch_seconds", "instance"), "{{instance}} p50"),
                (_quantile(0.99, "ingress_writer_batch_seconds", "instance"), "{{instance}} p99"),
                unit="s",
            ),
            _panel(
                "Retried, rejected, written again",
                "In 5 minutes",
                ("sum(increase(ingress_writer_retries_total[5m]))", "batches retried"),
                ("sum(increase(ingress_writer_rejected_total[5m]))", "rows rejected"),
                ("sum(increase(ingress_writer_rewritten_total[5m]))", "candles written again"),
            ),
            _panel(
                "Rows in hand",
                "Taken and not yet in the store",
                ("ingress_writer_in_hand", "{{instance}}"),
                ("max(ingress_writer_in_hand_limit)", "limit"),
            ),
            _panel(
                "Tasks of InfluxDB",
                "Since the last completed run was due",
                ("ingress_task_last_run_age_seconds", "{{task}}"),
                unit="s",
            ),
        ),
    ),
    Row(
        "Repair",
        (
            _panel(
                "Gaps of the store",
                "By what is done about them",
                ("sum by (state) (ingress_gaps)", "{{state}}"),
                ("sum(ingress_gap_windows)", "candles missing"),
            ),
            _panel(
                "Gaps in the aggregators",
                "Symbols with gaps, windows that wait",
                ("sum(ingress_aggregator_gapped_symbols)", "symbols"),
                ("sum(ingress_aggregator_held_windows)", "windows held"),
            ),
            _panel(
                "Repair",
                "In 5 minutes",
                ("sum(increase(ingress_repair_requests_total[5m]))", "asked"),
                ("sum(increase(ingress_repair_filled_total[5m]))", "windows filled"),
                ("sum(increase(ingress_repair_attempts_failed_total[5m]))", "in vain"),
            ),
            _panel(
                "Self-check",
                "Comparisons with Kraken in 15 minutes, and minutes that differ still",
                ("sum by (outcome) (increase(ingress_self_checks_total[15m]))", "{{outcome}}"),
                ("sum(ingress_self_check_unrepaired)", "not repaired"),
            ),
            _panel(
                "REST",
                "Calls by endpoint, and those to be made again",
                (_rate("ingress_gateway_rest_requests_total", "endpoint"), "{{endpoint}}"),
                (_rate("ingress_gateway_rest_retries_total"), "again"),
                unit="reqps",
            ),
            _panel(
                "History requests",
                "Not answered yet, and the age of the oldest",
                ("sum(ingress_gateway_history_pending)", "ranges"),
                ("max(ingress_gateway_history_oldest_seconds)", "oldest, s"),
            ),
        ),
    ),
    Row(
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
                "Share of each queue's bound",
                ("ingress:queue_fill:ratio", "{{instance}} {{queue}}"),
                unit="percentunit",
            ),
            _panel(
                "Connected",
                "Whether every connection to the broker is there",
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
                "Resident, of each process",
                ('process_resident_memory_bytes{job!="prometheus"}', "{{instance}}"),
                unit="bytes",
            ),
        ),
    ),
    Row(
        "HTTP",
        (
            _panel(
                "Requests",
                "By route and status",
                (_rate("ingress_admin_requests_total", "route, status"), "{{route}} {{status}}"),
                unit="reqps",
            ),
            _panel(
                "Answer time, p99",
                "From the arrival of a request to the head of its answer, by route",
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
    """The dashboard as Grafana reads it."""
    return dashboard_json(ROWS)
