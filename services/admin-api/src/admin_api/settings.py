"""What admin-api takes from the environment."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr

from admin_api.letters import LETTERS_KEPT
from admin_api.upkeep import UpkeepLimits
from ingress_store.settings import StoreSettings

_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([1-9][0-9]{0,5})([hdwy])", value.strip())
    if not match:
        raise ValueError("it is no number with h, d, w or y behind it")
    return int(match[1]) * _UNITS[match[2]]


class AdminSettings(StoreSettings):
    """The common settings, STORE_URL, RETENTION and ADMIN_TOKEN; without a token nothing can be changed over HTTP.

    AUDIT_MINUTES, AUDIT_HORIZON (seconds, once it is read) and SELF_CHECK_SECONDS: how often and how far back the store
    is looked through.
    """

    http_port: Annotated[int, Field(ge=0, le=65535, description="a port from 1 to 65535, or 0 for any free one")] = 8000
    admin_token: SecretStr | None = None
    audit_minutes: Annotated[float, Field(ge=0.1, le=1440, description="a number of minutes from 0.1 to 1440")] = 5.0
    audit_horizon: Annotated[int, BeforeValidator(_seconds), Field(description="a time such as 12h, 7d, 4w or 1y")] = (
        _UNITS["w"]
    )
    self_check_seconds: Annotated[
        float, Field(ge=0, le=3600, description="a number of seconds up to 3600, or 0 for no self-check")
    ] = 10.0

    def upkeep(self, letters_kept: int = LETTERS_KEPT) -> UpkeepLimits:
        """How the store is looked after."""
        return UpkeepLimits(
            audit_seconds=self.audit_minutes * 60,
            audit_horizon=self.audit_horizon,
            self_check_seconds=self.self_check_seconds,
            retention=self.retention,
            letters_kept=letters_kept,
        )
