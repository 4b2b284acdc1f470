"""Gauges of feeds that come, fall silent and go."""

import pytest
from prometheus_client import CollectorRegistry

from kraken_gateway.metrics import GatewayMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry) -> GatewayMetrics:
    return GatewayMetrics(registry)


def feeds_of(registry: CollectorRegistry) -> set[str]:
    return {
        sample.labels["feed"] for family in registry.collect() for sample in family.samples if "feed" in sample.labels
    }


def test_feed_that_was_never_live_is_down_and_has_no_lag(registry, metrics):
    metrics.watermark("g-0", None, 100.0)
    assert registry.get_sample_value("ingress_gateway_feed_live", {"feed": "g-0"}) == 0
    assert registry.get_sample_value("ingress_gateway_watermark_lag_seconds", {"feed": "g-0"}) is None


def test_lag_of_a_feed_without_a_connection_grows_from_its_last_watermark(registry, metrics):
    metrics.watermark("g-0", 99.0, 100.0)
    metrics.watermark("g-0", None, 160.0)
    assert registry.get_sample_value("ingress_gateway_watermark_lag_seconds", {"feed": "g-0"}) == 61


def test_removed_feed_is_in_no_metric(registry, metrics):
    for name in ("g-0", "g-1"):
        metrics.watermark(name, 99.0, 100.0)
        metrics.feed_symbols.labels(name).set(3)
        metrics.inactivity.labels(name).set(1.0)
        metrics.feed_lag.labels(name).set(0.1)
        metrics.feed_backlog.labels(name).set(1)
    metrics.keep_feeds(["g-0", "g-1"])
    metrics.keep_feeds(["g-1"])
    assert feeds_of(registry) == {"g-1"}
