"""The command line: `crypto-ingress run`, `demo`, `rollup`, `replay`, `import` and `export`."""

import asyncio
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from crypto_ingress import commands
from crypto_ingress.archive import ArchiveError
from crypto_ingress.progress import progress_of
from crypto_ingress.replay import ReplayError
from crypto_ingress.settings import DemoSettings, RunSettings
from crypto_ingress.tables import OutputError
from ingress_common.bus import BusError
from ingress_common.errors import SettingsError, StartError, first_of
from ingress_common.logs import configure_logging
from ingress_common.settings import load_settings
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339, rfc3339
from ingress_common.topics import TopicError, topic_symbol
from ingress_store import StoreOpenError, StoreUnavailableError
from kraken_simulator import FaultError, SimulatorError, SourceError

app = typer.Typer(
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Kraken's candles, complete and correct, on an MQTT bus and in a store.",
    epilog="Settings come from the environment and .env: docs/configuration.md lists them.",
)

_FAILURES = (
    ArchiveError,
    BusError,
    FaultError,
    OutputError,
    ReplayError,
    SimulatorError,
    SourceError,
    StartError,
    StoreOpenError,
    StoreUnavailableError,
    commands.CommandError,
)


def _symbol(text: str) -> str:
    try:
        topic_symbol(text)
    except TopicError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def _instant(text: str) -> float:
    try:
        instant = float(text) if text.isdigit() else parse_rfc3339(text)
        rfc3339(instant)
    except (ValueError, OverflowError, OSError):
        expected = "expected an RFC 3339 time such as 2024-02-25T02:15:00Z, or unix seconds"
        raise typer.BadParameter(f"{expected}, got {text!r}") from None
    return instant


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise typer.BadParameter(f"expected a number above 0 or max, got {text!r}")
    return speed


def _timeframe(text: str) -> Timeframe:
    try:
        return Timeframe.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _timeframes() -> list[str]:
    return [timeframe.value for timeframe in TIMEFRAMES]


def _show_version(asked: bool) -> None:  # noqa: FBT001 - the value of an option
    if asked:
        sys.stdout.write(f"crypto-ingress {version('crypto-ingress')}\n")
        raise typer.Exit


ArchiveFile = Annotated[Path, typer.Argument(metavar="FILE", help="A Kraken archive file of 1m candles (OHLCVT).")]
Symbol = Annotated[str, typer.Option(parser=_symbol, metavar="SYMBOL", help="The pair, such as BTC/USDC.")]


@app.callback()
def crypto_ingress(
    show_version: Annotated[  # noqa: FBT002 - a command line option, on which its callback acts
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What all commands have in common."""


@app.command()
def run() -> None:
    """Everything in one process: live Kraken, an embedded broker, a SQLite store. Ctrl-C stops it."""
    _execute(commands.run(_settings(RunSettings), _console()))


@app.command()
def demo() -> None:
    """The same on a simulated Kraken; needs no network."""
    _execute(commands.demo(_settings(DemoSettings), _console()))


@app.command()
def rollup(
    file: ArchiveFile,
    symbol: Symbol,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where 1m.csv to 1w.csv go.")],
) -> None:
    """Roll an archive file up into candles of all timeframes, one CSV file each."""
    with _failures(), progress_of("rolling up") as progress:
        commands.rollup(file, symbol, out, progress)


@app.command()
def replay(
    file: ArchiveFile,
    symbol: Symbol,
    speed: Annotated[
        Any, typer.Option(parser=_speed, metavar="N|max", help="Minutes of the file per minute, or as fast as it goes.")
    ] = "max",
    services: Annotated[  # noqa: FBT002 - a command line option
        bool, typer.Option(help="Run aggregator and writer here; --no-services plays to those already on MQTT_URL.")
    ] = True,
) -> None:
    """Play an archive file through broker, aggregator and writer into the store."""
    settings = _settings(RunSettings)
    with _failures(), progress_of("replaying") as progress:
        asyncio.run(commands.replay(settings, file, symbol, speed, progress, services=services))


@app.command(name="import")
def import_(file: ArchiveFile, symbol: Symbol) -> None:
    """Write an archive file's candles of all timeframes straight into the store."""
    settings = _settings(RunSettings)
    with _failures(), progress_of("importing") as progress:
        asyncio.run(commands.import_archive(settings, file, symbol, progress))


@app.command()
def export(
    symbol: Symbol,
    timeframe: Annotated[
        Any,
        typer.Option(
            parser=_timeframe,
            metavar="TIMEFRAME",
            help="1m, 5m, 15m, 1h, 4h, 1d or 1w.",
            autocompletion=_timeframes,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The CSV file to write.")],
    start: Annotated[
        Any, typer.Option("--from", parser=_instant, metavar="TIME", help="First open time: RFC 3339 or unix seconds.")
    ] = None,
    end: Annotated[
        Any, typer.Option("--to", parser=_instant, metavar="TIME", help="Open times before this one.")
    ] = None,
) -> None:
    """Write closed candles of the store to a CSV file, with the columns of `rollup`."""
    if start is not None and end is not None and start >= end:
        raise typer.BadParameter(f"expected --from before --to, got {rfc3339(start)} and {rfc3339(end)}")
    _execute(commands.export(_settings(RunSettings), symbol, timeframe, start, end, out))


def _settings(kind: type[RunSettings]) -> RunSettings:
    with _failures():
        settings = load_settings(kind)
        configure_logging(settings.log_level, settings.log_format)
        return settings


def _console() -> Console:
    return Console()


def _execute(work: Coroutine[Any, Any, None]) -> None:
    with _failures():
        asyncio.run(work)


@contextmanager
def _failures() -> Iterator[None]:
    """What the user can mend ends in one line and exit code 1, or 2 for a setting.

    Anything else is a bug and shows its traceback.
    """
    try:
        yield
    except SettingsError as error:
        _end(error, 2)
    except _FAILURES as error:
        _end(error, 1)
    except BaseExceptionGroup as group:
        known, unknown = group.split(_FAILURES)
        if known is None or unknown is not None:
            raise
        first = first_of(known)
        _end(first, 2 if isinstance(first, SettingsError) else 1)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _end(error: BaseException, code: int) -> None:
    _complain(str(error))
    raise typer.Exit(code)


def _complain(text: str) -> None:
    sys.stderr.write(f"crypto-ingress: {' '.join(text.split())}\n")


def main() -> None:
    """The `crypto-ingress` program."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        # By itself typer draws a box around it, whose lines break words and paths.
        _complain(error.format_message())
        code = error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
