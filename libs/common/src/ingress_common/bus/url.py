"""The broker's URL: address and credentials."""

import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, unquote

from ingress_common.tls import TlsFiles
from ingress_common.urls import bracketed, split_url

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_LONGEST_CREDENTIAL = 10_000  # MQTT has two bytes for the length in UTF-8

EXPECTED = "a broker URL such as mqtt://user:password@host:1883 or mqtts://host"
"""The valid form of a broker URL, for error messages."""


@dataclass(frozen=True, slots=True)
class MqttUrl:
    """A broker's address, `mqtt://` or `mqtts://` (TLS), with credentials. Its text form omits the password.

    `tls_files`: certificate authorities and a client certificate, for `mqtts://`.
    """

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_files: TlsFiles = TlsFiles()  # noqa: RUF009 - immutable

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `mqtt[s]://[user[:password]@]host[:port]`. ValueError names the fault, without the password."""
        parts = split_url(text)
        reason = _objection(parts)
        if reason:
            raise ValueError(reason)
        return cls(
            host=parts.hostname or "",
            port=parts.port or _PORTS[parts.scheme],
            tls=parts.scheme == "mqtts",
            username=None if parts.username is None else unquote(parts.username, errors="strict"),
            password=None if parts.password is None else unquote(parts.password, errors="strict"),
        )

    def __str__(self) -> str:
        scheme = "mqtts" if self.tls else "mqtt"
        user = f"{self.username}@" if self.username is not None else ""
        return f"{scheme}://{user}{bracketed(self.host)}:{self.port}"


def credential_objection(text: str) -> str | None:
    """Why `text` is neither a user nor a password; None if it may be one. The reason contains no part of it.

    MQTT allows no control characters in a user name, and no password that a person chose contains one.
    """
    if re.search(r"[\x00-\x1f\x7f]", text):
        return "the user or password contains a control character"
    if len(text) > _LONGEST_CREDENTIAL:
        return f"the user or password has {len(text)} characters, more than {_LONGEST_CREDENTIAL}"
    return None


def _objection(parts: SplitResult) -> str | None:
    if parts.scheme not in _PORTS:
        return "the scheme is not mqtt or mqtts" if parts.scheme else "it has no scheme"
    if not parts.hostname:
        return "it has no host"
    if parts.port == 0:
        return "port 0 cannot be connected to"
    if parts.path.strip("/") or parts.query or parts.fragment:
        return "nothing may follow the host and port"
    if parts.password is not None and not parts.username:
        return "it has a password and no user name"
    try:
        credentials = unquote(f"{parts.username or ''}{parts.password or ''}", errors="strict")
    except UnicodeDecodeError:
        return "the user or password is not UTF-8"
    return credential_objection(credentials)
