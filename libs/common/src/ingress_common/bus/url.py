"""Where the broker is and how to log in."""

from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

_PORTS = {"mqtt": 1883, "mqtts": 8883}
EXPECTED = "a broker URL such as mqtt://user:password@host:1883 or mqtts://host"
"""What `MqttUrl.parse` takes, in words for an error message."""


@dataclass(frozen=True, slots=True)
class MqttUrl:
    """A broker's address, `mqtt://` or `mqtts://` (TLS). Its text form never holds the password."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `mqtt[s]://[user[:password]@]host[:port]`; ValueError says what is wrong, without the password."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError("the address or port is malformed; a port is a number from 1 to 65535") from None
        reason = _objection(parts, port)
        if reason:
            raise ValueError(reason)
        return cls(
            host=parts.hostname or "",
            port=port or _PORTS[parts.scheme],
            tls=parts.scheme == "mqtts",
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
        )

    def __str__(self) -> str:
        scheme = "mqtts" if self.tls else "mqtt"
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.username}@" if self.username is not None else ""
        return f"{scheme}://{user}{host}:{self.port}"


def _objection(parts: SplitResult, port: int | None) -> str | None:
    if parts.scheme not in _PORTS:
        return f"the scheme is {parts.scheme!r} instead of mqtt or mqtts" if parts.scheme else "the scheme is missing"
    if not parts.hostname:
        return "the host is missing"
    if port == 0:
        return "port 0 is not a broker's"
    if parts.path.strip("/") or parts.query or parts.fragment:
        return "nothing may follow the host and port"
    if parts.password is not None and not parts.username:
        return "there is a password without a user name"
    return None
