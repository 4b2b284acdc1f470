"""Settings that services with a store have in common."""

from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from ingress_common.errors import SettingsError
from ingress_common.settings import ServiceSettings, StoreUrl
from ingress_store.errors import StoreUrlError
from ingress_store.influx import InfluxAccess
from ingress_store.opening import open_store
from ingress_store.port import CandleStore
from ingress_store.retention import Retention


def _retention(value: object) -> object:
    return Retention.parse(value) if isinstance(value, str) else value


RetentionSetting = Annotated[
    Retention,
    NoDecode,
    BeforeValidator(_retention),
    Field(description="times by timeframe such as 1m=90d,5m=1y,1w=forever,ticks=7d"),
]
"""How long rows are kept; what is not named keeps its default."""


class StoreSettings(ServiceSettings):
    """The common settings, STORE_URL, RETENTION, and for InfluxDB INFLUX_ORG, INFLUX_TOKEN and INFLUX_READ_TOKEN."""

    store_url: StoreUrl
    """Where candles and ticks are stored: InfluxDB 2, with TLS (`influxdbs`), or a SQLite file. Its path is from the
    working directory; an absolute one takes four slashes, such as `sqlite:////var/lib/candles.db`.
    """

    retention: RetentionSetting = Field(default_factory=Retention)
    """How long candles of each timeframe, and raw ticks, are kept; what is not named keeps its default."""

    influx_org: Annotated[str | None, Field(description="the name of InfluxDB's organisation")] = None
    """InfluxDB's organisation; admin-api makes it."""

    influx_token: Annotated[SecretStr | None, Field(description="a token of InfluxDB")] = None
    """Token for InfluxDB; admin-api needs an operator's, because it makes buckets, tasks and tokens."""

    influx_read_token: Annotated[
        SecretStr | None, Field(description="a token of InfluxDB that may read, where INFLUX_TOKEN may only write")
    ] = None
    """Token that may read, for a writer whose own token may only write."""

    def store(self) -> CandleStore:
        """The store that STORE_URL names, to be opened; SettingsError if there is none, or what it needs is not set."""
        access = None
        if self.influx_org and self.influx_token:
            reading = self.influx_read_token.get_secret_value() if self.influx_read_token else None
            access = InfluxAccess(self.influx_org, self.influx_token.get_secret_value(), reading)
        try:
            return open_store(self.store_url, retention=self.retention, influx=access)
        except StoreUrlError as error:
            raise SettingsError(f"STORE_URL: {error}") from None
