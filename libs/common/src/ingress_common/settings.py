"""Settings from the environment and `.env`, checked before anything connects (`docs/design.md`, section 4)."""

import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from dotenv.parser import parse_stream
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from ingress_common.bus.client import DEFAULT_CLIENT, MqttClient
from ingress_common.bus.url import EXPECTED as MQTT_EXPECTED
from ingress_common.bus.url import MqttUrl, credential_objection
from ingress_common.errors import SettingsError
from ingress_common.redaction import HIDDEN, file_objection, shown_address, shown_path, shown_text, shown_url
from ingress_common.secret_files import SecretFiles, holds_secret
from ingress_common.symbols import right_name
from ingress_common.tls import TlsFiles
from ingress_common.topics import Topics
from ingress_common.urls import plain_url

__all__ = [
    "HeaderSecret",
    "HttpUrl",
    "LogLevel",
    "MqttSetting",
    "ServiceSettings",
    "SettingsError",
    "SymbolPatterns",
    "WsUrl",
    "load_settings",
    "zero_or_at_least",
]

PUBLISHED = "change-me"
"""Prefix of the secrets in the repository, which are for a first try on one machine only."""

PUBLISHED_SECRETS = "published_secrets"
"""Status detail: the variables whose secret is published in the repository; absent if there is none."""

SHORT_SECRETS = "short_secrets"
"""Status detail: the variables whose secret is shorter than 16 characters; absent if there is none."""

_SHORTEST_SECRET = 16

_LEVEL = r"[^\s/+#\x00-\x1f\x7f-\x9f]"
"""A character of a topic level."""

_ENV_ENCODING = "utf-8-sig"
"""UTF-8, with the byte order mark that some editors write."""

_SECRET_NAMES = ("token", "password", "secret")
_ADDRESS_NAMES = ("_host", "_proxies")
_ASSET = r"[A-Za-z0-9._]+"
_PATTERN = re.compile(rf"{_ASSET}/{_ASSET}|\*/{_ASSET}|{_ASSET}/\*|\*")


def _mqtt_url(value: object) -> object:
    return MqttUrl.parse(value.strip()) if isinstance(value, str) else value


def _symbol_patterns(value: object) -> object:
    """Split a comma-separated list; each pattern once, in the order given."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return parts
    patterns = tuple(dict.fromkeys(str(part).strip() for part in parts if str(part).strip()))
    for pattern in patterns:
        meant = right_name(pattern)
        if not _PATTERN.fullmatch(meant):
            raise ValueError(f"{pattern!r} is neither a symbol nor a pattern")
        if meant != pattern:
            raise ValueError(f"{pattern!r} is not Kraken's name of a pair, which is {_hint(meant, pattern)}")
    if not patterns:
        raise ValueError("it contains no symbol")
    return patterns


def _hint(meant: str, given: str) -> str:
    """The right name for `given`; of a tokenised stock in lower case it is not known that it is one."""
    base, _, quote = meant.partition("/")
    if base.endswith("X") and given[len(base) - 1] == "x":
        return f"{meant!r}, or {f'{base[:-1]}x/{quote}'!r} for a tokenised stock"
    return repr(meant)


def _http_url(value: object) -> object:
    return plain_url(value.strip(), "http", "https") if isinstance(value, str) else value


def _ws_url(value: object) -> object:
    return plain_url(value.strip(), "ws", "wss") if isinstance(value, str) else value


def _file(value: Path | None) -> Path | None:
    objection = None if value is None else file_objection(str(value))
    if objection:
        raise ValueError(objection)
    return value


def _ca_file(value: Path | None) -> Path | None:
    if value is not None:
        TlsFiles(ca_file=value).client_context()
    return value


def _cert_file(value: Path | None, info: ValidationInfo) -> Path | None:
    name = str(info.field_name)
    names = [name.replace("cert", other) for other in ("key", "client_ca")]
    if names[0] not in info.data:
        # The key's own complaint is enough.
        return value
    key, clients = (info.data.get(other) for other in names)
    if value is not None:
        TlsFiles(cert_file=value, key_file=key).client_context()
    elif key or clients:
        # Without it the server would speak plain HTTP, and ask nobody for a certificate.
        raise ValueError(f"{names[0 if key else 1].upper()} requires it")
    return value


def _health_port(port: int | None, info: ValidationInfo) -> int | None:
    if port is not None and port == info.data.get("http_port"):
        raise ValueError("it is that of HTTP_PORT")
    return port


def _completed(url: MqttUrl, info: ValidationInfo) -> MqttUrl:
    """`url` with the password and TLS files from their own settings."""
    files = TlsFiles(*(info.data.get(f"mqtt_{kind}_file") for kind in ("ca", "cert", "key")))
    if files and not url.tls:
        raise ValueError("MQTT_CA_FILE and MQTT_CERT_FILE require mqtts://")
    password: SecretStr | None = info.data.get("mqtt_password")
    if password is None:
        return replace(url, tls_files=files)
    if url.username is None:
        raise ValueError("MQTT_PASSWORD requires a user in the URL")
    if url.password is not None:
        raise ValueError("both it and MQTT_PASSWORD contain a password")
    if objection := credential_objection(password.get_secret_value()):
        raise ValueError(objection.replace("the user or password", "MQTT_PASSWORD"))
    return replace(url, password=password.get_secret_value(), tls_files=files)


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _prefix(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(rf"(?=.{{1,200}}$)(?!\$){_LEVEL}+(/{_LEVEL}+)*", value):
        raise ValueError(
            "it is longer than 200 characters, or a topic level is empty, starts with $ or contains a blank, "
            "a control character, + or #"
        )
    return value


def _instance(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(rf"(?!.*\$){_LEVEL}{{1,100}}", value):
        raise ValueError("it is longer than 100 characters or contains one that a topic level must not contain")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"[\w.-]+|[0-9A-Fa-f:.]+(%[\w.-]+)?", value):
        raise ValueError("it is neither an IP address nor a host name")
    return value


def _host_name() -> str:
    return re.sub(r"[\s/+#$]", "-", socket.gethostname())[:100] or "instance"


def zero_or_at_least(least: float) -> AfterValidator:
    """A number that is 0, for none, or at least `least`."""

    def check(value: float) -> float:
        if 0 < value < least:
            raise ValueError(f"it is less than {least:g} and not 0")
        return value

    return AfterValidator(check)


MqttSetting = Annotated[MqttUrl, NoDecode, BeforeValidator(_mqtt_url), Field(description=MQTT_EXPECTED)]
"""A broker URL, parsed."""

SymbolPatterns = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_symbol_patterns),
    Field(description="symbols separated by commas such as BTC/USD,ETH/USD, or patterns such as */USD or *"),
]
"""Symbols and patterns, each once, in the order given: `BTC/USD`, `*/USD`, `BTC/*`, `*`."""

HttpUrl = Annotated[str, BeforeValidator(_http_url), Field(description="a URL such as https://host:443")]
"""An http or https URL as text, without a trailing slash."""

WsUrl = Annotated[str, BeforeValidator(_ws_url), Field(description="a URL such as wss://host/v2")]
"""A ws or wss URL as text, without a trailing slash."""


LogLevel = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    BeforeValidator(_lower),
    Field(description="debug, info, warning, error or critical"),
]
"""The lowest level that is logged."""


CaFile = Annotated[
    Path | None,
    AfterValidator(_file),
    AfterValidator(_ca_file),
    Field(description="a file of certificates in PEM form"),
]
"""Certificate authorities to trust instead of the system's."""

KeyFile = Annotated[
    Path | None,
    AfterValidator(_file),
    Field(description="a file with a private key in PEM form, without a password"),
]
"""The private key of a certificate; its content is checked together with the certificate."""

CertFile = Annotated[
    Path | None,
    AfterValidator(_file),
    AfterValidator(_cert_file),
    Field(description="a file with a certificate and its chain in PEM form"),
]
"""Our own certificate. Its key is in the same file or in the setting with KEY instead of CERT. Declare that one and the
one with CLIENT_CA before it.
"""


def _header_value(secret: SecretStr) -> SecretStr:
    """`secret`, if it can be sent in an HTTP header; ValueError without any part of it otherwise."""
    text = secret.get_secret_value()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("it contains a line break or another character that no token has")
    return secret


HeaderSecret = Annotated[SecretStr, AfterValidator(_header_value)]
"""A secret that is sent in an HTTP header, such as a token."""


class ServiceSettings(BaseSettings):
    """The settings of every service. Each field is the environment variable of the same name in capitals.

    An empty variable counts as unset. The environment has precedence over `.env` in the working directory. A secret may
    also come from the file that `<NAME>_FILE` names.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding=_ENV_ENCODING,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        str_strip_whitespace=True,
    )

    # Fields are checked in this order: MQTT_URL comes after the settings that complete it.
    mqtt_password: SecretStr | None = None
    """Password of the broker's user, if MQTT_URL does not contain it. Write it as it is, without URL encoding."""

    mqtt_ca_file: CaFile = None
    """Certificate authorities to trust for the broker's certificate instead of the system's; for `mqtts://`."""

    mqtt_key_file: KeyFile = None
    """Key of MQTT_CERT_FILE, if that file does not contain it."""

    mqtt_cert_file: CertFile = None
    """Client certificate, for a broker that requires one."""

    mqtt_url: Annotated[MqttSetting, AfterValidator(_completed)] = MqttUrl("localhost", 1883)
    """The MQTT 5 broker, with user and password; `mqtts://` for TLS."""

    mqtt_client: Annotated[MqttClient, BeforeValidator(_lower), Field(description="mqtt5 or paho")] = DEFAULT_CLIENT
    """The MQTT client library. Both behave the same; mqtt5 uses less CPU."""

    ingress_topic_prefix: Annotated[
        str, BeforeValidator(_prefix), Field(description="topic levels such as ingress or team/ingress")
    ] = "ingress"
    """Prefix of every topic."""

    instance_id: Annotated[
        str,
        BeforeValidator(_instance),
        Field(description="a name without blanks, /, +, # and $, of at most 100 characters"),
    ] = Field(default_factory=_host_name)
    """Name of the process: unique within its service and the same after a restart."""

    log_level: LogLevel = "info"
    """The lowest level that is logged."""

    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower), Field(description="console or json")] = (
        "console"
    )
    """Format of log lines: console for people, json for programs."""

    http_host: Annotated[
        str, AfterValidator(_host), Field(description="an address to listen on such as 127.0.0.1 or 0.0.0.0")
    ] = "127.0.0.1"
    """Address that the HTTP server listens on: health and metrics, and the API of admin-api."""

    http_port: Annotated[int, Field(ge=0, le=65535, description="a port from 1 to 65535, or 0 for any free one")] = 9000
    """Port that the HTTP server listens on."""

    http_client_ca_file: CaFile = None
    """Certificate authorities of HTTP clients. If set, every client needs a certificate from one of them."""

    http_key_file: KeyFile = None
    """Key of HTTP_CERT_FILE, if that file does not contain it."""

    http_cert_file: CertFile = None
    """Certificate of the HTTP server. If set, the server accepts only TLS."""

    health_port: Annotated[
        int | None,
        Field(ge=1, le=65535, description="a port from 1 to 65535, other than HTTP_PORT"),
        AfterValidator(_health_port),
    ] = None
    """Port on 127.0.0.1 that serves health and metrics once more, without TLS: for a container's own health check."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - a folder of files; SecretFiles replaces it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources by precedence: arguments, the environment, `.env`, the files that `<NAME>_FILE` names."""
        variables = tuple(cast("EnvSettingsSource", source).env_vars for source in (env_settings, dotenv_settings))
        return init_settings, env_settings, dotenv_settings, SecretFiles(settings_cls, variables)

    @property
    def http_tls(self) -> TlsFiles:
        """Certificate, key and client authorities of the HTTP server; falsy if it serves plain HTTP."""
        return TlsFiles(self.http_client_ca_file, self.http_cert_file, self.http_key_file)

    @property
    def unsafe_secrets(self) -> Mapping[str, tuple[str, ...]]:
        """The variables whose secret is easily guessed: `published_secrets` stand in the repository, `short_secrets`
        have fewer than 16 characters. A kind of which there is none is absent.
        """
        secrets = {
            name.upper(): value.get_secret_value()
            for name, value in ((name, getattr(self, name)) for name in type(self).model_fields)
            if isinstance(value, SecretStr)
        }
        if "MQTT_PASSWORD" not in secrets and self.mqtt_url.password:
            secrets["MQTT_URL"] = self.mqtt_url.password
        published = tuple(name for name, secret in secrets.items() if secret.startswith(PUBLISHED))
        short = tuple(
            name for name, secret in secrets.items() if name not in published and len(secret) < _SHORTEST_SECRET
        )
        found = {PUBLISHED_SECRETS: published, SHORT_SECRETS: short}
        return {kind: names for kind, names in found.items() if names}

    @property
    def topics(self) -> Topics:
        """The topics under this prefix."""
        return Topics(self.ingress_topic_prefix)


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def load_settings(settings_type: type[SettingsT], **overrides: Any) -> SettingsT:
    """Settings from `overrides`, the environment and `.env`, in this order of precedence.

    SettingsError, in one line, lists each wrong variable with its valid values, and its value if that cannot be
    a secret; or it names the line of `.env` that cannot be read.
    """
    try:
        _check_env_file(overrides.get("_env_file", settings_type.model_config.get("env_file")))
        return settings_type(**overrides)
    except ValidationError as error:
        # `from None`, because the chained exception would carry secrets into a log.
        lines = [
            _complaint(settings_type, entry["loc"], entry["msg"], entry["input"], entry["type"])
            for entry in error.errors()
        ]
        raise SettingsError("; ".join(dict.fromkeys(lines))) from None
    except SourceError as error:
        raise SettingsError(f"expected settings that can be read, got: {_one_line(str(error))}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "another encoding"
        raise SettingsError(f"expected .env to be a text file in UTF-8, got: {reason}") from None


def _check_env_file(name: object) -> None:
    """SettingsError with the number of the first line of `.env` that cannot be read. dotenv only warns of it, and the
    service would run with defaults.
    """
    path = Path(name) if isinstance(name, str | Path) else None
    if path is None or not path.is_file():
        return
    with path.open(encoding=_ENV_ENCODING) as lines:
        for binding in parse_stream(lines):
            if binding.error:
                text = binding.original.string
                line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
                raise SettingsError(
                    f"{path}: expected NAME=value in line {line}, with a closing quote for each opening one, "
                    f"got {HIDDEN}"
                )


def _complaint(
    settings_type: type[BaseSettings], location: tuple[int | str, ...], message: str, value: object, kind: str
) -> str:
    name = str(location[0]) if location else ""
    field = settings_type.model_fields.get(name)
    if field is None:
        return f"settings: {_one_line(message)}"
    # The message of a validator may repeat the value.
    expected = (field.description or ("another value" if kind == "value_error" else _one_line(message))).rstrip(".")
    if kind == "missing":
        return f"{name.upper()} is not set: expected {expected}"
    shown = _shown(name, field, value)
    reason = _one_line(message.removeprefix("Value error, ")) if kind == "value_error" else ""
    if shown != repr(value) and re.search("['\"]", reason):
        # It quotes a part of what is hidden.
        reason = ""
    return f"{name.upper()}: expected {expected}, got {shown}{f' ({reason})' if reason else ''}"


def _shown(name: str, field: FieldInfo, value: object) -> str:
    if holds_secret(field) or isinstance(value, SecretStr) or any(part in name for part in _SECRET_NAMES):
        return HIDDEN
    if isinstance(value, str | Path) and name.endswith("_file"):
        return shown_path(str(value))
    if not isinstance(value, str):
        return repr(value)
    if name.endswith(_ADDRESS_NAMES):
        return shown_address(value)
    return shown_url(value) if name.endswith("_url") else shown_text(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())
