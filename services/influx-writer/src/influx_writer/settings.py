"""Settings of influx-writer."""

from ingress_store.settings import StoreSettings


class WriterSettings(StoreSettings):
    """The common settings, STORE_URL and RETENTION."""
