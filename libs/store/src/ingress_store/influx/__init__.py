"""The candle store on InfluxDB 2: a bucket for each timeframe, and tasks that roll the candles up too."""

from ingress_store.influx.access import InfluxAccess
from ingress_store.influx.downsampling import backfill_flux, task_flux
from ingress_store.influx.store import InfluxStore

__all__ = ["InfluxAccess", "InfluxStore", "backfill_flux", "task_flux"]
