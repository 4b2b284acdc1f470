"""Which of the written rows are read back from InfluxDB."""

from ingress_common.timeframes import Timeframe
from ingress_store.influx.new_shards import NewShards
from ingress_store.retention import Retention

DAY = 86_400
TODAY = 20_000 * DAY
VERSION = (True, 0.0, 0)


def rows(*times: int, timeframe: Timeframe = Timeframe.M1) -> dict:
    return {("BTC/USD", timeframe, time): VERSION for time in times}


def test_a_day_is_read_back_once_while_it_is_written_to():
    shards = NewShards(Retention())
    assert shards.unconfirmed(rows(TODAY), 1000.0) == [rows(TODAY)]
    shards.confirm(rows(TODAY), 1000.0)
    for n in range(20):
        assert not shards.unconfirmed(rows(TODAY + 60), 1000.0 + 240 * (n + 1))
    assert shards.unconfirmed(rows(TODAY + DAY), 6000.0)


def test_first_row_of_a_day_is_read_back_for_all():
    written = {(symbol, Timeframe.M1, TODAY + 60 * n): VERSION for n in (1, 0, 2) for symbol in ("A/USD", "B/USD")}
    assert NewShards(Retention()).unconfirmed(written, 0.0) == [{("A/USD", Timeframe.M1, TODAY): VERSION}]


def test_day_is_read_back_once_more_after_it_may_have_left_influxdbs_memory():
    # After 10 minutes without a write InfluxDB moves rows from memory to a file, then it may free the shard.
    shards = NewShards(Retention())
    shards.confirm(rows(TODAY), 1000.0)
    assert shards.unconfirmed(rows(TODAY + 60), 1600.0) == [rows(TODAY + 60)]


def test_rows_far_apart_are_not_read_back_together():
    # Between two minutes of ten years there are five million rows a symbol, which no server returns in time.
    old = TODAY - 3650 * DAY
    written = rows(TODAY, TODAY + 60, old, old + 600) | rows(TODAY, TODAY - 190 * DAY, timeframe=Timeframe.D1)
    assert NewShards(Retention()).unconfirmed(written, 0.0) == [
        rows(old),
        rows(TODAY),
        rows(TODAY - 190 * DAY, TODAY, timeframe=Timeframe.D1),
    ]


def test_hours_are_read_back_if_less_than_a_day_is_kept():
    # A shard is not longer than the retention.
    shards = NewShards(Retention.parse("1m=6h"))
    shards.confirm([*rows(TODAY), *rows(TODAY, timeframe=Timeframe.M5)], 0.0)
    assert not shards.unconfirmed(rows(TODAY + 3540) | rows(TODAY + 82_800, timeframe=Timeframe.M5), 1.0)
    assert shards.unconfirmed(rows(TODAY + 3600), 1.0)
