"""Secrets from files, as Docker and Kubernetes mount them: ADMIN_TOKEN_FILE=/run/secrets/admin_token."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from ingress_common.errors import SettingsError
from ingress_common.redaction import read_failure, shown_path

_URLS = ("mqtt_url",)
"""Settings that may contain a password."""

_MAX_BYTES = 64 * 1024
"""Maximum size of a file with a secret; a device such as /dev/zero has no end."""


def may_come_from_file(name: str, field: FieldInfo) -> bool:
    """Whether the setting `name` holds a secret, so that `<NAME>_FILE` may replace it."""
    return name in _URLS or holds_secret(field)


def holds_secret(field: FieldInfo) -> bool:
    """Whether the type of a setting is a secret."""
    return "SecretStr" in str(field.annotation) or any(m is SecretStr for m in field.metadata)


class SecretFiles(PydanticBaseSettingsSource):
    """A settings source that reads each secret from the file that `<NAME>_FILE` names, without surrounding blanks.

    `variables`: the environment and `.env` by lower-case name, highest precedence first. SettingsError if a file cannot
    be read or a secret is set both ways.
    """

    def __init__(self, settings_type: type[BaseSettings], variables: tuple[Mapping[str, str | None], ...]) -> None:
        super().__init__(settings_type)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The secret, the field's name, and False, because the value is plain text and not JSON."""
        variable = f"{field_name}_file"
        path = self._variable(variable) if may_come_from_file(field_name, field) else None
        if path is None:
            return None, field_name, False
        if self._variable(field_name) is not None:
            raise SettingsError(f"{variable.upper()}: expected either it or {field_name.upper()}, got both")
        try:
            with Path(path).open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                expected = f"expected a file of at most {_MAX_BYTES} bytes"
                raise SettingsError(f"{variable.upper()}: {expected}, got more in {path!r}")
            secret = content.decode().strip()
        except (OSError, ValueError) as error:
            reason = read_failure(path, error)
            raise SettingsError(
                f"{variable.upper()}: expected a file with the secret, got {shown_path(path)} ({reason})"
            ) from None
        if len(secret.splitlines()) > 1:
            raise SettingsError(f"{variable.upper()}: expected a file with one line, got more in {path!r}")
        return secret, field_name, False

    def __call__(self) -> dict[str, Any]:
        """All secrets that come from files, by field name."""
        fields = self.settings_cls.model_fields.items()
        found = {name: self.get_field_value(field, name)[0] for name, field in fields}
        return {name: value for name, value in found.items() if value is not None}

    def _variable(self, name: str) -> str | None:
        """The value of a variable; an empty one counts as unset."""
        return next((value.strip() for known in self._variables if (value := known.get(name))), None)
