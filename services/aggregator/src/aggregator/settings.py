"""Settings of the aggregator."""

from typing import Annotated

from pydantic import Field

from ingress_common.settings import ServiceSettings


class AggregatorSettings(ServiceSettings):
    """The common settings, and when to stop waiting for missing data."""

    gap_give_up_hours: Annotated[float, Field(ge=0.1, le=87_600, description="a number of hours from 0.1 to 87600")] = (
        24.0
    )
    """Hours of market time after which to give up on a gap: candles over it close with `complete` false."""
