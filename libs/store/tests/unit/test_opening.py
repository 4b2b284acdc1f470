"""Opening a store, and retention texts."""

from pathlib import Path

import pytest

from ingress_common.timeframes import Timeframe
from ingress_store import InfluxAccess, Retention, StoreUrlError, open_store, parse_store_url


@pytest.mark.parametrize(
    ("url", "location"),
    [("sqlite:///data/c.db", "sqlite:///data/c.db"), ("sqlite:////var/c.db", "sqlite:////var/c.db")],
)
def test_a_sqlite_url_is_a_relative_or_an_absolute_path_and_touches_nothing(url, location):
    assert open_store(parse_store_url(url)).location == location
    assert not Path("data/c.db").exists()


@pytest.mark.parametrize("url", ["influxdb://localhost:8086", "influxdbs://host"])
def test_an_influxdb_url_needs_an_organisation_and_a_token(url):
    with pytest.raises(StoreUrlError, match="INFLUX_ORG and INFLUX_TOKEN"):
        open_store(parse_store_url(url))
    store = open_store(parse_store_url(url), influx=InfluxAccess("org", "secret"))
    assert store.location == url
    assert "secret" not in repr(InfluxAccess("org", "secret"))


def test_unnamed_timeframe_keeps_its_default_retention():
    retention = Retention.parse("1m=12h, 1d=2y,1h=forever,ticks=1w")
    assert retention.candles[Timeframe.M1] == 12 * 3600
    assert retention.candles[Timeframe.M5] == 365 * 86400
    assert retention.candles[Timeframe.H1] is None
    assert retention.candles[Timeframe.D1] == 730 * 86400
    assert retention.ticks == 7 * 86400
    assert Retention.parse(retention.text) == retention
    assert "1m=12h,5m=1y," in retention.text
    assert Retention.parse("") == Retention()


@pytest.mark.parametrize(
    "text", ["2m=1d", "1m", "1m=0d", "1m=-1d", "1m=90", "ticks=soon", "1h=1h", "1w=13d", "1m=90d,1m=5d"]
)
def test_malformed_retention_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        Retention.parse(text)
