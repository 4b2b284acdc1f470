"""The common settings of services with a store."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from ingress_common.errors import SettingsError
from ingress_common.redaction import holds_credentials
from ingress_common.settings import CaFile, CertFile, HeaderSecret, KeyFile, ServiceSettings
from ingress_common.tls import TlsFiles
from ingress_store.errors import StoreUrlError
from ingress_store.influx import InfluxAccess
from ingress_store.opening import open_store
from ingress_store.port import CandleStore
from ingress_store.retention import Retention
from ingress_store.url import EXPECTED, InfluxUrl, StoreUrl, parse_store_url


def _store_url(value: object) -> object:
    return parse_store_url(value.strip()) if isinstance(value, str) else value


def _retention(value: object) -> object:
    return Retention.parse(value) if isinstance(value, str) else value


def _org(value: str | None) -> str | None:
    if value is not None and holds_credentials(value):
        raise ValueError("it contains a user, which is shown to everyone")
    return value


StoreUrlSetting = Annotated[StoreUrl, NoDecode, BeforeValidator(_store_url), Field(description=EXPECTED)]
"""A store URL, parsed."""

RetentionSetting = Annotated[
    Retention,
    NoDecode,
    BeforeValidator(_retention),
    Field(description="times by timeframe such as 1m=90d,5m=1y,1w=forever,ticks=7d"),
]
"""How long rows are kept; unnamed timeframes keep their default."""


class StoreSettings(ServiceSettings):
    """The common settings, STORE_URL, RETENTION, and for InfluxDB INFLUX_ORG and INFLUX_TOKEN."""

    store_url: StoreUrlSetting
    """Where candles and ticks are stored: InfluxDB 2, with TLS (`influxdbs`), or a SQLite file. Its path is from the
    working directory; an absolute one takes four slashes, such as `sqlite:////var/lib/candles.db`.
    """

    retention: RetentionSetting = Field(default_factory=Retention)
    """How long candles of each timeframe, and raw ticks, are kept; unnamed ones keep their default."""

    influx_org: Annotated[
        str | None, AfterValidator(_org), Field(description="the name or ID of InfluxDB's organisation")
    ] = None
    """InfluxDB's organisation; admin-api's bootstrap creates a missing organisation and logs it. Two stacks on one
    InfluxDB take two organisations.
    """

    influx_ca_file: CaFile = None
    """Certificate authorities that InfluxDB's certificate may come from, instead of the system's; for `influxdbs://`."""

    influx_key_file: KeyFile = None
    """Key of INFLUX_CERT_FILE, if that file does not contain it."""

    influx_cert_file: CertFile = None
    """Client certificate for InfluxDB, or for a proxy before it."""

    influx_token: Annotated[HeaderSecret | None, Field(description="a token of InfluxDB")] = None
    """Token for InfluxDB; admin-api needs an operator's, because it makes buckets, tasks and tokens."""

    @property
    def store_name(self) -> str:
        """Where candles are stored, without secrets: the same for all services of a stack."""
        if isinstance(self.store_url, InfluxUrl):
            return f"{self.store_url} {self.influx_org or ''}".strip()
        return str(self.store_url.absolute)

    def store(self) -> CandleStore:
        """The store of STORE_URL, to be opened; SettingsError if there is none or a setting is missing."""
        access = None
        if self.influx_org and self.influx_token:
            files = TlsFiles(self.influx_ca_file, self.influx_cert_file, self.influx_key_file)
            if files and not (isinstance(self.store_url, InfluxUrl) and self.store_url.tls):
                raise SettingsError("STORE_URL: expected influxdbs:// with INFLUX_CA_FILE or INFLUX_CERT_FILE")
            access = InfluxAccess(self.influx_org, self.influx_token.get_secret_value(), files)
        try:
            return open_store(self.store_url, retention=self.retention, influx=access)
        except StoreUrlError as error:
            raise SettingsError(f"STORE_URL: {error}") from None
