"""Settings of the simulator: given in code as `SimulatorConfig`, or read from the environment (`SIM_...`)."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kraken_simulator.errors import SimulatorError
from kraken_simulator.pace import MAX_TICKS
from kraken_simulator.pairs import SYMBOL_PATTERN


def _parse_symbols(value: object) -> object:
    if isinstance(value, str):
        text = value.strip()
        if not text or text.isdigit():
            return int(text) if text else None
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


def _parse_files(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    bad = [part for part in parts if "=" not in part]
    if bad:
        message = f"expected PAIR=FILE such as BTC/USDC=XBTUSDC_1.csv, was {bad[0]!r}"
        raise ValueError(message)
    names = [part.partition("=")[0].strip() for part in parts]
    if twice := [name for name in names if names.count(name) > 1]:
        message = f"expected each pair once, was {twice[0]!r} twice"
        raise ValueError(message)
    return {name: Path(part.partition("=")[2].strip()) for name, part in zip(names, parts, strict=True)}


Symbols = Annotated[int | tuple[str, ...] | None, NoDecode, BeforeValidator(_parse_symbols)]
"""A number of synthetic pairs, their names, or None for the default eight."""

Files = Annotated[dict[str, Path], NoDecode, BeforeValidator(_parse_files)]
"""Source files by symbol; as text `BTC/USDC=FILE,...`."""


class SimulatorConfig(BaseModel):
    """All settings. Port 0 takes a free port; times are unix seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8700, ge=0, le=65535, description="port of WebSocket and REST")
    control_port: int = Field(8701, ge=0, le=65535, description="port of truth, faults and counters")
    seed: int = Field(1, description="seed of the synthetic markets")
    symbols: Symbols = Field(None, description="synthetic pairs: their number or names (default: 8)")
    archives: Files = Field({}, description="archive files of 1m candles, PAIR=FILE")
    trades: Files = Field({}, description="recorded REST Trades responses, PAIR=FILE")
    play_from: float | None = Field(None, description="time in the files at which replay starts")
    epoch: float | None = Field(None, description="end of the synthetic past and start of live trading (default: now)")
    activity: float = Field(1.0, gt=0, le=1_000, description="factor on the live trading of synthetic pairs")
    rate: float | None = Field(
        None, ge=1, le=MAX_TICKS, description="ticks a second over all synthetic pairs (default: by their profiles)"
    )
    burst_rate: float | None = Field(None, ge=1, le=MAX_TICKS, description="ticks a second in a burst (default: none)")
    burst_seconds: float = Field(60.0, gt=0, description="seconds that a burst lasts")
    burst_every: float = Field(600.0, gt=0, description="seconds between the starts of bursts")
    tokenized: int = Field(0, ge=0, description="number of additional tokenised stocks such as AAPLx/USD")
    history_weeks: int | None = Field(
        None, ge=1, le=1_000, description="weeks of history (default: 720, many pairs 12)"
    )
    connection_limit: int = Field(150, ge=0, description="connection attempts per window and address before 429")
    connection_window: float = Field(600.0, gt=0, description="seconds of that window")
    rest_rate: float = Field(1.0, gt=0, description="REST calls per second for each address and pair")
    rest_burst: int = Field(5, ge=1, description="maximum burst of REST calls")
    request_rate: float = Field(20.0, gt=0, description="WebSocket requests per second on one socket")
    request_burst: int = Field(50, ge=1, description="maximum burst of WebSocket requests")
    idle_seconds: float = Field(60.0, gt=0, description="seconds after which a socket without subscriptions is closed")
    poll_seconds: float = Field(
        0.05, gt=0, le=1, description="seconds between two steps that make trades and send frames"
    )

    @field_validator("archives", "trades")
    @classmethod
    def _names_are_symbols(cls, files: dict[str, Path]) -> dict[str, Path]:
        for symbol in files:
            if not SYMBOL_PATTERN.fullmatch(symbol):
                message = f"expected a pair such as BTC/USDC before the file, was {symbol!r}"
                raise ValueError(message)
        return files


class EnvironmentConfig(BaseSettings, SimulatorConfig):
    """The settings from the environment: `SIM_PORT`, `SIM_SYMBOLS`, ...; arguments have precedence."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, env_prefix="SIM_", env_ignore_empty=True
    )


OPTIONS = {"archives": "--archive", "trades": "--trades"}
"""Options with another name than their setting: each takes one file and may be repeated."""


def read_config(**options: Any) -> SimulatorConfig:
    """Settings from `options`, then the environment. SimulatorError names a wrong setting, its value and the reason."""
    try:
        return EnvironmentConfig(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
        text = first["msg"].removeprefix("Value error, ")
        raise SimulatorError(f"SIM_{name.upper()} ({option}): {text}, was {first['input']!r}") from None
