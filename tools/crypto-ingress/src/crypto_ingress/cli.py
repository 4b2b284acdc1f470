"""The command line: `crypto-ingress run`, `demo`, `rollup`, `replay`, `import` and `export`."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from ingress_common.bus import BusError
from ingress_common.errors import SettingsError, StartError
from ingress_common.logs import configure_logging
from ingress_common.settings import load_settings
from ingress_common.timeframes import Timeframe
from ingress_common.times import parse_rfc3339
from ingress_common.topics import TopicError, topic_symbol
from ingress_store import StoreOpenError, StoreUnavailableError
from kraken_simulator import FaultError, SimulatorError, SourceError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from crypto_ingress import commands
from crypto_ingress.archive import ArchiveError
from crypto_ingress.replay import ReplayError
from crypto_ingress.settings import DemoSettings, RunSettings
from crypto_ingress.tables import OutputError

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Kraken's candles, complete and correct. Settings come from the environment and .env.",
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
        return float(text) if text.isdigit() else parse_rfc3339(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}, or unix seconds") from None


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


ArchiveFile = Annotated[Path, typer.Argument(metavar="FILE", help="A Kraken archive file of 1m candles (OHLCVT).")]
Symbol = Annotated[str, typer.Option(parser=_symbol, metavar="SYMBOL", help="The pair, such as BTC/USDC.")]


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
    with _failures(), _progress("rolling up") as progress:
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
    with _progress("replaying") as progress:
        _execute(commands.replay(settings, file, symbol, speed, progress, services=services))


@app.command(name="import")
def import_(file: ArchiveFile, symbol: Symbol) -> None:
    """Write an archive file's candles of all timeframes straight into the store."""
    settings = _settings(RunSettings)
    with _progress("importing") as progress:
        _execute(commands.import_archive(settings, file, symbol, progress))


@app.command()
def export(
    symbol: Symbol,
    timeframe: Annotated[
        Any, typer.Option(parser=_timeframe, metavar="TIMEFRAME", help="1m, 5m, 15m, 1h, 4h, 1d or 1w.")
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
    _execute(commands.export(_settings(RunSettings), symbol, timeframe, start, end, out))


def _settings(kind: type[RunSettings]) -> RunSettings:
    with _failures():
        settings = load_settings(kind)
        configure_logging(settings.log_level, settings.log_format)
        return settings


def _console() -> Console:
    return Console()


@contextmanager
def _progress(label: str) -> Iterator[Callable[[float, float], None]]:
    """A progress bar on standard error, told (done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _execute(work: Coroutine[Any, Any, None]) -> None:
    with _failures():
        asyncio.run(work)


@contextmanager
def _failures() -> Iterator[None]:
    """What the user can mend ends in one line and exit code 1, or 2 for a setting;

    anything else is a bug and shows its traceback.
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
        first = _first(known)
        _end(first, 2 if isinstance(first, SettingsError) else 1)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _end(error: BaseException, code: int) -> None:
    sys.stderr.write(f"crypto-ingress: {' '.join(str(error).split())}\n")
    raise typer.Exit(code)


def main() -> None:
    """The `crypto-ingress` program."""
    app()


if __name__ == "__main__":
    main()
