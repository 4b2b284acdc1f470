"""What admin-api takes from the environment."""

from typing import Annotated

from pydantic import Field, SecretStr

from ingress_store.settings import StoreSettings


class AdminSettings(StoreSettings):
    """The common settings, STORE_URL, RETENTION and ADMIN_TOKEN; without a token nothing can be changed over HTTP."""

    http_port: Annotated[int, Field(ge=0, le=65535, description="a port from 1 to 65535, or 0 for any free one")] = 8000
    admin_token: SecretStr | None = None
    """Bearer token for what changes something over HTTP; without it nothing can be changed."""
