"""docs/metrics.md: every metric of every service."""

from registries import SERVICES, MetricKind, metrics_of

_HEAD = """# Metrics

Every service serves `GET /metrics` (Prometheus): admin-api on port 8000, the others on 9000.
`make docs` generates this page from the services' own registries. Alerts, recording rules and the
dashboard are in [deploy/monitoring](../deploy/monitoring/); [operations.md](operations.md) explains
each alert. On Linux each service also has `process_*` (CPU, memory, files).

Names begin with `ingress_` and the measuring part, and end with the unit; counters end with
`_total`. Only `ingress_symbol_age_seconds` has a series for each symbol: about 1,450 for all of
Kraken's pairs, on admin-api alone.

| stage of a candle | metric |
|---|---|
"""

_STAGES = {
    "received": (
        "ingress_gateway_frames_total",
        "ingress_gateway_ticks_total",
        "ingress_aggregator_ticks_total",
        "ingress_writer_received_total",
    ),
    "published, closed, infilled, corrected": ("ingress_aggregator_candles_total",),
    "written, rejected, retried": (
        "ingress_writer_written_total",
        "ingress_writer_rejected_total",
        "ingress_writer_retries_total",
        "ingress_gateway_rest_retries_total",
        "ingress_gateway_snapshot_retries_total",
    ),
    "watermark lag": ("ingress_gateway_watermark_lag_seconds", "ingress_watermark_age_seconds"),
    "tick to publish": ("ingress_aggregator_publish_latency_seconds",),
    "close to store": ("ingress_writer_close_to_store_seconds", "ingress_writer_receipt_to_store_seconds"),
    "queue fill": ("ingress_bus_inbound_queued", "ingress_bus_outbound_queued", "ingress_writer_in_hand"),
    "missing": ("ingress_writer_missing_candles", "ingress_writer_republish_requests_total"),
    "connection attempts": ("ingress_gateway_connection_attempts", "ingress_gateway_connection_attempts_limit"),
    "task state": ("ingress_task_ok", "ingress_task_last_run_age_seconds"),
}


def metrics_page() -> str:
    """The text of the page."""
    of = {service: metrics_of(service) for service in SERVICES}
    common = {metric for metric in of[SERVICES[0]] if all(metric in metrics for metrics in of.values())}
    stages = "".join(f"| {stage} | {', '.join(f'`{n}`' for n in names)} |\n" for stage, names in _STAGES.items())
    parts = [_HEAD + stages, _section("All services", sorted(common, key=lambda metric: metric.name))]
    parts += [_section(name, [metric for metric in metrics if metric not in common]) for name, metrics in of.items()]
    return "\n".join(parts)


def _section(title: str, metrics: list[MetricKind]) -> str:
    rows = [
        f"| `{metric.name}` | {metric.type} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.text} |"
        for metric in metrics
    ]
    return "\n".join([f"## {title}", "", "| metric | type | labels | meaning |", "|---|---|---|---|", *rows, ""])
