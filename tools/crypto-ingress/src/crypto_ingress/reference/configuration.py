"""The reference of all settings, as a Markdown page, from the classes that read them."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from admin_api.settings import AdminSettings
from aggregator.settings import AggregatorSettings
from crypto_ingress.reference.meanings import MissingMeaningError, meanings
from crypto_ingress.settings import DemoSettings, RunSettings
from influx_writer.settings import WriterSettings
from ingress_common.settings import ServiceSettings
from kraken_gateway.settings import GatewaySettings
from kraken_simulator.config import SimulatorConfig

SERVICES: Mapping[str, type[ServiceSettings]] = {
    "kraken-gateway": GatewaySettings,
    "aggregator": AggregatorSettings,
    "influx-writer": WriterSettings,
    "admin-api": AdminSettings,
}
"""The settings that each service reads."""

_COMMANDS: Mapping[str, type[ServiceSettings]] = {
    "crypto-ingress": RunSettings,
    "crypto-ingress demo": DemoSettings,
}

_SHOWN: Mapping[str, str] = {
    "instance_id": "the host name",
    "retention": "`1m=90d,5m=1y,15m=2y,1h=5y,4h=forever,1d=forever,1w=forever,ticks=7d`",
    "audit_horizon": "`7d`",
}
"""Defaults that are worked out, or that are not kept as they are written."""

_HEAD = """\
# Configuration

<!-- Generated from the settings classes by `make docs`. -->

Settings are environment variables; each is also read from `.env` in the working directory, where the environment does
not have it. An empty variable counts as not set. A wrong value ends a service at its start with one line that names the
variable, what it holds and what it may hold, and exit code 2. Secrets are never shown.

```sh
HTTP_PORT=8080 SYMBOLS=BTC/USD,ETH/USD .venv/bin/crypto-ingress run
```

The variables of the compose files, such as passwords and host ports, are explained in
[`.env.example`](../.env.example). *must be set* means that the service does not start without it.
"""

_COMMAND_LINE = """\
## crypto-ingress

The command line takes the settings of all services. What is not set has a default that needs nothing installed:

| variable | default of `crypto-ingress` | default of `crypto-ingress demo` |
|---|---|---|
"""

_SIMULATOR = """\
## kraken-simulator

For `kraken-simulator` and `crypto-ingress demo`, from the environment alone: only Compose takes them from `.env`. Each
is also an option of `python -m kraken_simulator`.

| variable | meaning | default |
|---|---|---|
"""


def configuration_page() -> str:
    """The page. MissingMeaningError names a setting that has no docstring."""
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
    table = "| variable | meaning | may hold | default |\n|---|---|---|---|\n"
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
    return f"| `{name.upper()}` | {_meaning(kind, name)} | {holds} | {usual}{''.join(others)} |\n"


def _command_line() -> str:
    rows = []
    for name in RunSettings.model_fields:
        service = next(kind for kind in SERVICES.values() if name in kind.model_fields)
        own = [_default(name, kind.model_fields[name]) for kind in _COMMANDS.values()]
        if name == "mqtt_url":
            own = ["a broker of its own"] * 2
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


def _meaning(kind: type[BaseModel], name: str) -> str:
    try:
        return meanings(kind)[name].replace("|", "\\|")
    except KeyError:
        raise MissingMeaningError(f"expected a docstring behind {kind.__name__}.{name}, got none") from None


def _default(name: str, field: FieldInfo) -> str:
    if name in _SHOWN:
        return _SHOWN[name]
    if field.is_required():
        return "*must be set*"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, SecretStr):
        raise MissingMeaningError(f"expected no default for the secret {name}, got one")
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
