"""Settings from the environment and `.env`, checked before anything connects (`design.md`, section 4)."""

import re
import socket
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from ingress_common.bus.url import EXPECTED as MQTT_EXPECTED
from ingress_common.bus.url import MqttUrl
from ingress_common.errors import SettingsError
from ingress_common.topics import Topics

__all__ = [
    "HttpUrl",
    "LogLevel",
    "MqttSetting",
    "ServiceSettings",
    "SettingsError",
    "StoreUrl",
    "SymbolPatterns",
    "WsUrl",
    "load_settings",
]

_SECRET_NAMES = ("token", "password", "secret")
_PATTERN = re.compile(r"[^\s/,+#*-]+/[^\s/,+#*-]+|\*/[^\s/,+#*-]+|[^\s/,+#*-]+/\*|\*")


def _mqtt_url(value: object) -> object:
    return MqttUrl.parse(value.strip()) if isinstance(value, str) else value


def _symbol_patterns(value: object) -> object:
    """Split a comma-separated list; each pattern once, in the order given."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return parts
    patterns = tuple(dict.fromkeys(str(part).strip() for part in parts if str(part).strip()))
    wrong = [pattern for pattern in patterns if not _PATTERN.fullmatch(pattern)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is neither a symbol nor a pattern")
    if not patterns:
        raise ValueError("there is no symbol in it")
    return patterns


def _store_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    scheme, separator, rest = value.strip().partition("://")
    if not separator or scheme not in ("influxdb", "influxdbs", "sqlite"):
        raise ValueError(
            f"the scheme is {scheme!r} instead of influxdb, influxdbs or sqlite"
            if separator
            else "the scheme is missing"
        )
    if scheme == "sqlite":
        if not rest.startswith("/") or rest == "/":
            raise ValueError("the path is missing; sqlite takes three slashes and a path")
        return value.strip()
    return _address(value.strip(), (scheme,))


def _address(text: str, schemes: tuple[str, ...]) -> str:
    """`text` without a trailing slash, if it is `scheme://host[:port][/path]` of one of `schemes`."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("the address or port is malformed; a port is a number from 1 to 65535") from None
    if parts.scheme not in schemes:
        found = f"the scheme is {parts.scheme!r} instead of" if parts.scheme else "the scheme is missing, expected"
        raise ValueError(f"{found} {' or '.join(schemes)}")
    if not parts.hostname:
        raise ValueError("the host is missing")
    if port == 0:
        raise ValueError("port 0 cannot be connected to")
    if any(c.isspace() for c in text):
        raise ValueError("there is a blank in it")
    return text.rstrip("/")


def _http_url(value: object) -> object:
    return _address(value.strip(), ("http", "https")) if isinstance(value, str) else value


def _ws_url(value: object) -> object:
    return _address(value.strip(), ("ws", "wss")) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _prefix(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[^\s$/+#][^\s/+#]*(/[^\s/+#]+)*", value):
        raise ValueError("a topic level is empty, begins with $ or holds a blank, + or #")
    return value


def _instance(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[^\s/+#$]{1,100}", value):
        raise ValueError("it holds a character that a topic level may not, or is longer than 100")
    return value


def _host_name() -> str:
    return re.sub(r"[\s/+#$]", "-", socket.gethostname())[:100] or "instance"


MqttSetting = Annotated[MqttUrl, NoDecode, BeforeValidator(_mqtt_url), Field(description=MQTT_EXPECTED)]
"""A broker URL, parsed."""

SymbolPatterns = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_symbol_patterns),
    Field(description="symbols separated by commas such as BTC/USD,ETH/USD, or patterns such as */USD or *"),
]
"""Symbols and patterns, each once, in the order given: `BTC/USD`, `*/USD`, `BTC/*`, `*`."""

StoreUrl = Annotated[
    str,
    BeforeValidator(_store_url),
    Field(description="a store URL such as influxdb://host:8086, influxdbs://host or sqlite:///path"),
]
"""Where candles are stored, as text."""

HttpUrl = Annotated[str, BeforeValidator(_http_url), Field(description="a URL such as https://host:443")]
"""An http or https URL as text, without a trailing slash."""

WsUrl = Annotated[str, BeforeValidator(_ws_url), Field(description="a URL such as wss://host/v2")]
"""A ws or wss URL as text, without a trailing slash."""


LogLevel = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    BeforeValidator(_lower),
    Field(description="debug, info, warning, error or critical"),
]
"""The least severe level that is logged."""


class ServiceSettings(BaseSettings):
    """What every service takes; each field is the environment variable of the same name in capitals.

    An empty variable counts as unset. The environment wins over `.env` in the working directory.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=True,
        str_strip_whitespace=True,
    )

    mqtt_url: MqttSetting = MqttUrl("localhost", 1883)
    """The MQTT 5 broker, with user and password."""

    ingress_topic_prefix: Annotated[
        str, BeforeValidator(_prefix), Field(description="topic levels such as ingress or team/ingress")
    ] = "ingress"
    """What every topic begins with."""

    instance_id: Annotated[
        str,
        BeforeValidator(_instance),
        Field(description="a name without blanks, /, +, # and $, of at most 100 characters"),
    ] = Field(default_factory=_host_name)
    """Name of the process; no two of one service may have the same. It stays the same over restarts."""

    log_level: LogLevel = "info"
    """The least severe level that is logged."""

    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower), Field(description="console or json")] = (
        "console"
    )
    """How a line of the log looks: for people, or for programs."""

    http_host: Annotated[
        str, Field(min_length=1, description="an address to listen on such as 127.0.0.1 or 0.0.0.0")
    ] = "127.0.0.1"
    """Address on which HTTP is served: health and metrics, and the API of admin-api."""

    http_port: Annotated[int, Field(ge=0, le=65535, description="a port from 1 to 65535, or 0 for any free one")] = 9000
    """Port on which HTTP is served."""

    @property
    def topics(self) -> Topics:
        """The topics under this prefix."""
        return Topics(self.ingress_topic_prefix)


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def load_settings(settings_type: type[SettingsT], **overrides: Any) -> SettingsT:
    """Settings from `overrides`, the environment and `.env`, in this order of precedence.

    SettingsError, in one line, names each variable that is wrong, what it may hold and what it holds.
    """
    try:
        return settings_type(**overrides)
    except ValidationError as error:
        # A secret must not reach a log through the chained exception either.
        lines = [
            _complaint(settings_type, entry["loc"], entry["msg"], entry["input"], entry["type"])
            for entry in error.errors()
        ]
        raise SettingsError("; ".join(dict.fromkeys(lines))) from None
    except SourceError as error:
        raise SettingsError(f"expected settings that can be read, got: {_one_line(str(error))}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"expected .env to be a text file in UTF-8, got: {_one_line(str(error))}") from None


def _complaint(
    settings_type: type[BaseSettings], location: tuple[int | str, ...], message: str, value: object, kind: str
) -> str:
    name = str(location[0]) if location else ""
    field = settings_type.model_fields.get(name)
    if field is None:
        return f"settings: {_one_line(message)}"
    expected = (field.description or _one_line(message)).rstrip(".")
    if kind == "missing":
        return f"{name.upper()} is not set: expected {expected}"
    reason = f" ({_one_line(message.removeprefix('Value error, '))})" if kind == "value_error" else ""
    return f"{name.upper()}: expected {expected}, got {_shown(name, field.annotation, value)}{reason}"


def _shown(name: str, annotation: object, value: object) -> str:
    if annotation is SecretStr or isinstance(value, SecretStr) or any(word in name for word in _SECRET_NAMES):
        return "something else (hidden)"
    return repr(_without_password(value) if isinstance(value, str) else value)


def _without_password(text: str) -> str:
    """`text` with what stands between `:` and the last `@` of its authority masked, even where it is no valid URL."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return re.sub(r"://[^@]*@", "://***@", text)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return re.sub(r"^[^@/]*:[^@]*@", "***@", text)
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}" if ":" in user else parts.netloc))


def _one_line(text: str) -> str:
    return " ".join(text.split())
