"""What is counted as what."""

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from aggregator.metrics import AggregatorMetrics, PublicationKind, kind_of_response, kind_of_update
from example import CANDLE
from ingress_common.timeframes import TIMEFRAMES, Timeframe

CLOSED = replace(CANDLE, closed=True, infilled=False, revision=0, timeframe=Timeframe.M1)
MEMORY = dict.fromkeys(TIMEFRAMES, CLOSED.open_time)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"closed": False}, PublicationKind.FORMING),
        ({}, PublicationKind.CLOSED),
        ({"infilled": True, "trades": 0}, PublicationKind.INFILLED),
        ({"revision": 1}, PublicationKind.CORRECTED),
        ({"revision": 2, "infilled": True}, PublicationKind.CORRECTED),
    ],
)
def test_kind_of_update_follows_the_candle(changes, kind):
    assert kind_of_update(replace(CLOSED, **changes)) is kind


def test_candle_older_than_its_response_is_of_kind_repeated():
    assert kind_of_response(CLOSED, CLOSED.at + 1, MEMORY) is PublicationKind.REPEATED
    assert kind_of_response(CLOSED, CLOSED.at, MEMORY) is PublicationKind.CLOSED
    assert kind_of_response(replace(CLOSED, revision=1), CLOSED.at, MEMORY) is PublicationKind.CORRECTED


def test_candle_before_the_memory_is_of_kind_rebuilt():
    old = replace(CLOSED, open_time=CLOSED.open_time - 60)
    assert kind_of_response(old, CLOSED.at, MEMORY) is PublicationKind.REBUILT
    assert kind_of_response(old, CLOSED.at, {}) is PublicationKind.CLOSED, "nothing is in memory yet"


def test_only_news_has_a_latency_and_none_is_negative():
    registry = CollectorRegistry()
    metrics = AggregatorMetrics(registry)
    for kind in PublicationKind:
        metrics.published(CLOSED, kind, CLOSED.at - 5)

    def value(part: str, kind: PublicationKind) -> float | None:
        return registry.get_sample_value(f"ingress_aggregator_publish_latency_seconds_{part}", {"kind": kind.value})

    assert {kind for kind in PublicationKind if value("count", kind)} == {
        PublicationKind.FORMING,
        PublicationKind.CLOSED,
        PublicationKind.INFILLED,
    }
    assert value("sum", PublicationKind.CLOSED) == 0
