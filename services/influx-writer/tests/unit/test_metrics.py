"""Whose way into the store is measured."""

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from example import CANDLE
from influx_writer.intake import PendingRow, RowKind
from influx_writer.metrics import LIVE_SECONDS, WriterMetrics
from ingress_common.model import Candle

END = CANDLE.close_time
LIVE = replace(CANDLE, closed=True, revision=0, at=END + 1.0)
COMMITTED = END + 2.5


class Counted:
    """Rows that were committed, and what is measured then."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._metrics = WriterMetrics(self._registry)

    def commit(self, candle: Candle, kind: RowKind = RowKind.CANDLE, *, taken_at: float, now: float) -> None:
        self._metrics.committed(kind, [PendingRow(candle, lambda: None, taken_at)], now)

    def value(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(f"ingress_writer_{name}", labels)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_close_to_store_is_from_the_end_of_the_window_to_the_commit(counted):
    counted.commit(LIVE, taken_at=END + 1.1, now=COMMITTED)
    assert counted.value("close_to_store_seconds_sum", way="live") == COMMITTED - END
    assert counted.value("receipt_to_store_seconds_sum", kind="candle") == COMMITTED - LIVE.at


def test_write_that_takes_long_is_live_all_the_same(counted):
    counted.commit(LIVE, taken_at=END + 1.1, now=END + 600)
    assert counted.value("close_to_store_seconds_sum", way="live") == 600


@pytest.mark.parametrize(
    ("candle", "taken_at"),
    [
        pytest.param(replace(LIVE, at=END + LIVE_SECONDS + 1), END + LIVE_SECONDS + 2, id="repaired"),
        pytest.param(LIVE, END + LIVE_SECONDS + 2, id="published again, or kept by the broker"),
    ],
)
def test_late_candle_does_not_count_as_live(counted, candle, taken_at):
    counted.commit(candle, taken_at=taken_at, now=taken_at + 1)
    assert counted.value("close_to_store_seconds_count", way="late") == 1
    assert counted.value("close_to_store_seconds_count", way="live") == 0


def test_correction_has_no_close_latency(counted):
    counted.commit(replace(LIVE, revision=1), taken_at=END + 1.1, now=COMMITTED)
    assert counted.value("close_to_store_seconds_count", way="live") == 0
    assert counted.value("written_total", kind="candle") == 1


def test_store_lag_follows_ticks_not_republished_candles(counted):
    counted.commit(replace(LIVE, closed=False), RowKind.TICK, taken_at=END + 1.1, now=END + 3)
    assert counted.value("store_lag_seconds") == 2
    counted.commit(LIVE, taken_at=END + 7200, now=END + 7201)
    assert counted.value("store_lag_seconds") == 2
