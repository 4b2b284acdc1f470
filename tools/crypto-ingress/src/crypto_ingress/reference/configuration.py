"""The reference page of all settings, generated from the settings classes."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from admin_api.settings import AdminSettings
from aggregator.settings import AggregatorSettings
from crypto_ingress.reference.field_docs import UndocumentedFieldError, field_docs
from crypto_ingress.settings import DemoSettings, RunSettings
from influx_writer.settings import WriterSettings
from ingress_common.service_names import ADMIN_API, AGGREGATOR, GATEWAY, WRITER
from ingress_common.settings import ServiceSettings
from ingress_store import Retention
from kraken_gateway.settings import GatewaySettings
from kraken_simulator.config import SimulatorConfig

SERVICES: Mapping[str, type[ServiceSettings]] = {
    GATEWAY: GatewaySettings,
    AGGREGATOR: AggregatorSettings,
    WRITER: WriterSettings,
    ADMIN_API: AdminSettings,
}
"""The settings that each service reads."""

_COMMANDS: Mapping[str, type[ServiceSettings]] = {
    "crypto-ingress": RunSettings,
    "crypto-ingress demo": DemoSettings,
}

_SHOWN: Mapping[str, str] = {
    "instance_id": "the host name",
    "retention": f"`{Retention().text}`",
    "audit_horizon": "`7d`",
}
"""Defaults that are computed or stored in another form."""

_HEAD = """\
# Configuration

<!-- Generated from the settings classes by `make docs`. -->

Settings are environment variables. `.env` in the working directory may set them too; the
environment has precedence. An empty variable counts as unset. A wrong value ends a service at its
start with exit code 2 and one line that names the variable, its valid values and, if it cannot be a
secret, its value. So does a `.env` with a line that cannot be read.

```sh
HTTP_PORT=8080 SYMBOLS=BTC/USD,ETH/USD .venv/bin/crypto-ingress run
```

[`.env.example`](../.env.example) explains the variables of the Compose files, such as passwords
and host ports. *required*: the service does not start without it.
"""

_COMMAND_LINE = """\
## crypto-ingress

The command line reads the settings of all services. Its defaults need no other program:

| variable | default of `crypto-ingress` | default of `crypto-ingress demo` |
|---|---|---|
"""

_SIMULATOR = """\
## kraken-simulator

For `kraken-simulator` and `crypto-ingress demo`, from the environment only; Compose also reads
them from `.env`. Each is also an option of `python -m kraken_simulator`.

| variable | meaning | default |
|---|---|---|
"""


def configuration_page() -> str:
    """The page. UndocumentedFieldError names a setting without a docstring."""
    return f"{_HEAD}\n{_services()}\n{_command_line()}\n{_simulator()}"


def _services() -> str:
    sections: dict[str, list[str]] = {}
    seen: set[str] = set()
    for settings in SERVICES.values():
        for name in settings.model_fields:
            if name in seen:
                continue
            seen.add(name)
            readers = [service for service, kind in SERVICES.items() if name in kind.model_fields]
            title = "Every service" if len(readers) == len(SERVICES) else ", ".join(readers)
            sections.setdefault(title, []).append(_row(name, readers))
    table = "| variable | meaning | valid values | default |\n|---|---|---|---|\n"
    return "\n".join(f"## {title}\n\n{table}{''.join(rows)}" for title, rows in sections.items())


def _row(name: str, readers: Sequence[str]) -> str:
    kind = SERVICES[readers[0]]
    field = kind.model_fields[name]
    defaults = {service: _default(name, SERVICES[service].model_fields[name]) for service in readers}
    usual = defaults[readers[0]]
    others = [f"; {service}: {shown}" for service, shown in defaults.items() if shown != usual]
    holds = (
        (field.description or ("a secret" if "Secret" in str(field.annotation) else "text"))
        .replace("|", "\\|")
        .replace("*", "\\*")
    )
    return f"| `{name.upper()}` | {_docstring(kind, name)} | {holds} | {usual}{''.join(others)} |\n"


def _command_line() -> str:
    rows = []
    for name in RunSettings.model_fields:
        service = next(kind for kind in SERVICES.values() if name in kind.model_fields)
        own = [_default(name, kind.model_fields[name]) for kind in _COMMANDS.values()]
        if name == "mqtt_url":
            own = ["an embedded broker"] * 2
        elif own == [_default(name, service.model_fields[name])] * 2 and name != "http_port":
            continue
        rows.append(f"| `{name.upper()}` | {own[0]} | {own[1]} |\n")
    return _COMMAND_LINE + "".join(rows)


def _simulator() -> str:
    rows = [
        f"| `SIM_{name.upper()}` | {field.description} | {_default(name, field)} |\n"
        for name, field in SimulatorConfig.model_fields.items()
    ]
    return _SIMULATOR + "".join(rows)


def _docstring(kind: type[BaseModel], name: str) -> str:
    try:
        return field_docs(kind)[name].replace("|", "\\|")
    except KeyError:
        raise UndocumentedFieldError(f"expected a docstring behind {kind.__name__}.{name}, got none") from None


def _default(name: str, field: FieldInfo) -> str:
    if name in _SHOWN:
        return _SHOWN[name]
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, SecretStr):
        raise UndocumentedFieldError(f"expected no default for the secret {name}, got one")
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
