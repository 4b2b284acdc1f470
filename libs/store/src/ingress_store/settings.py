"""Settings that services with a store have in common."""

from typing import Annotated

from ingress_common.settings import ServiceSettings, StoreUrl
from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

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
    """The common settings, STORE_URL and RETENTION."""

    store_url: StoreUrl
    retention: RetentionSetting = Field(default_factory=Retention)
