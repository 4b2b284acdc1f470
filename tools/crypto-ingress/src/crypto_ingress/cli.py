"""The command line: `crypto-ingress run`, `demo`, and the commands on archive files and the store."""

import asyncio
import os
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from crypto_ingress import store_commands
from crypto_ingress.archive import ArchiveError
from crypto_ingress.errors import CommandError, ReplayError
from crypto_ingress.progress import progress_of
from crypto_ingress.settings import DemoSettings, RunSettings
from crypto_ingress.tables import OutputError
from ingress_common.bus import BusError
from ingress_common.errors import SettingsError, StartError, first_of
from ingress_common.logs import configure_logging
from ingress_common.proxies import prepare_proxies
from ingress_common.redaction import holds_credentials, is_key
from ingress_common.service import warn_of_unsafe_secrets
from ingress_common.settings import load_settings
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339, rfc3339
from ingress_common.topics import TopicError, topic_symbol
from ingress_store import StoreOpenError, StoreUnavailableError
from kraken_simulator import FaultError, SimulatorError, SourceError

ChoiceT = TypeVar("ChoiceT", bound=StrEnum)

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
    CommandError,
)


def _symbol(text: str) -> str:
    try:
        topic_symbol(text)
    except TopicError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def _symbols(text: str) -> tuple[str, ...]:
    return tuple(_symbol(part.strip()) for part in text.split(","))


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


def _timeframe(text: str) -> tuple[Timeframe, ...]:
    try:
        return tuple(Timeframe.parse(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _timeframes() -> list[str]:
    return [timeframe.value for timeframe in TIMEFRAMES]


def _show_version(requested: bool) -> None:  # noqa: FBT001 - the value of an option
    if requested:
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
    """Options of all commands."""


@app.command()
def run() -> None:
    """Run all services in one process: live Kraken, embedded broker, SQLite store. Ctrl-C stops it."""
    _execute(_services().run(_settings(RunSettings), _console()))


@app.command()
def demo() -> None:
    """Run all services in one process on a simulated Kraken. Needs no network."""
    _execute(_services().demo(_settings(DemoSettings), _console()))


@app.command()
def rollup(
    file: ArchiveFile,
    symbol: Symbol,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder for the files 1m.csv to 1w.csv.")],
) -> None:
    """Roll up an archive file into one CSV file per timeframe."""
    with _failures(), progress_of("rolling up") as progress:
        _history().rollup(file, symbol, out, progress)


@app.command()
def replay(
    file: ArchiveFile,
    symbol: Symbol,
    speed: Annotated[
        Any,
        typer.Option(parser=_speed, metavar="N|max", help="Minutes of the file per minute, or as fast as possible."),
    ] = "max",
    services: Annotated[  # noqa: FBT002 - a command line option
        bool, typer.Option(help="Run aggregator and writer here; --no-services uses those already on MQTT_URL.")
    ] = True,
) -> None:
    """Play an archive file through broker, aggregator and writer into the store."""
    settings = _settings(RunSettings)
    with _failures(), progress_of("replaying") as progress:
        asyncio.run(_services().replay(settings, file, symbol, speed, progress, services=services))


@app.command(name="import")
def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Kraken's archives: zip files, folders, files (OHLCVT or trades)."),
    ],
    symbol: Annotated[
        str | None,
        typer.Option(
            parser=_symbol,
            metavar="SYMBOL",
            help="The pair, such as BTC/USDC, of files whose names contain none; or the only pair to import.",
        ),
    ] = None,
) -> None:
    """Import archive files into the store, in all timeframes. Safe to repeat."""
    settings = _settings(RunSettings)
    _history()
    with _failures(), progress_of("importing") as progress:
        asyncio.run(store_commands.import_files(settings, paths, symbol, _write_line, progress))


@app.command()
def backfill(
    symbols: Annotated[Any, typer.Option(parser=_symbols, metavar="SYMBOLS", help="Such as BTC/USD,ETH/USD.")],
    start: Annotated[
        Any, typer.Option("--from", parser=_instant, metavar="TIME", help="First minute: RFC 3339 or unix seconds.")
    ],
    end: Annotated[
        Any, typer.Option("--to", parser=_instant, metavar="TIME", help="Minute after the last one; default: now.")
    ] = None,
) -> None:
    """Fill the store's gaps from Kraken's trades, at Kraken's rate limit. Safe to stop and repeat."""
    if end is not None and start >= end:
        raise typer.BadParameter(f"expected --from before --to, got {rfc3339(start)} and {rfc3339(end)}")
    settings = _settings(RunSettings)
    _history()
    with _failures(), progress_of("days") as progress:
        asyncio.run(store_commands.backfill(settings, symbols, start, end, _write_line, progress))


@app.command()
def verify(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]...", help="Archive files to compare with the store.")
    ] = None,
    symbols: Annotated[
        Any, typer.Option(parser=_symbols, metavar="SYMBOLS", help="Such as BTC/USD,ETH/USD; default: all.")
    ] = None,
    start: Annotated[
        Any,
        typer.Option(
            "--from", parser=_instant, metavar="TIME", help="A time in the first week: RFC 3339 or unix seconds."
        ),
    ] = None,
    end: Annotated[Any, typer.Option("--to", parser=_instant, metavar="TIME", help="A time in the last week.")] = None,
    kraken: Annotated[  # noqa: FBT002 - a command line option
        bool,
        typer.Option(
            "--kraken", help="Also compare with the last 720 candles of each timeframe from Kraken's REST API."
        ),
    ] = False,
    fix: Annotated[  # noqa: FBT002 - a command line option
        bool, typer.Option("--fix", help="Correct wrong candles from lower timeframes or Kraken's candles.")
    ] = False,
) -> None:
    """Compare stored candles with each other, archive files and Kraken. Exit code 1 if any is wrong."""
    settings = _settings(RunSettings)
    wanted = _history().Verification(symbols or (), start, end, fix, settings.retention)
    with _failures(), progress_of("verifying") as progress:
        asyncio.run(store_commands.verify(settings, wanted, paths or [], _write_line, progress, kraken=kraken))


@app.command()
def export(
    symbols: Annotated[
        Any, typer.Option("--symbol", parser=_symbols, metavar="SYMBOL", help="The pair, or several with commas.")
    ],
    timeframes: Annotated[
        Any,
        typer.Option(
            "--timeframe",
            parser=_timeframe,
            metavar="TIMEFRAME",
            help=f"One of {', '.join(timeframe.value for timeframe in TIMEFRAMES)}, or several with commas.",
            autocompletion=_timeframes,
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The output file; for several symbols or timeframes a folder.")
    ],
    start: Annotated[
        Any, typer.Option("--from", parser=_instant, metavar="TIME", help="First open time: RFC 3339 or unix seconds.")
    ] = None,
    end: Annotated[
        Any, typer.Option("--to", parser=_instant, metavar="TIME", help="Open time after the last one.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="csv, parquet or arrow; default: the file name's suffix."),
    ] = None,
    numbers: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Type of prices in Parquet and Arrow: float, or decimal (exact).")
    ] = "float",
) -> None:
    """Export closed candles from the store to CSV (the columns of `rollup`), Parquet or Arrow files."""
    if start is not None and end is not None and start >= end:
        raise typer.BadParameter(f"expected --from before --to, got {rfc3339(start)} and {rfc3339(end)}")
    settings = _settings(RunSettings)
    history = _history()
    wanted = history.Export(
        symbols=symbols,
        timeframes=timeframes,
        start=start,
        end=end,
        out=out,
        form=_choice("--format", history.FileFormat, form or out.suffix.removeprefix(".").lower(), default="csv"),
        numbers=_choice("--numbers", history.NumberType, numbers),
    )
    with _failures(), progress_of("exporting") as progress:
        asyncio.run(store_commands.export(settings, wanted, progress))


def _choice(option: str, kind: type[ChoiceT], text: str, default: str | None = None) -> ChoiceT:
    names = [str(each) for each in kind]
    if text in names:
        return kind(text)
    if default is not None and not text:
        return kind(default)
    raise typer.BadParameter(f"{option}: expected {', '.join(names[:-1])} or {names[-1]}, got {text!r}")


def _services() -> ModuleType:
    """The module of the commands that need the services, whose import takes a second."""
    from crypto_ingress import commands

    return commands


def _history() -> ModuleType:
    """The module of the commands on data frames, which need polars, a large optional library."""
    try:
        from crypto_ingress.history import commands as history
    except ModuleNotFoundError as error:
        if error.name != "polars":
            raise
        _complain('this command needs polars: pip install "crypto-ingress[history]"')
        raise typer.Exit(1) from None
    return history


def _write_line(line: str) -> None:
    sys.stdout.write(line + "\n")


@app.command(name="check-broker")
def check_broker(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="The broker, mqtt:// or mqtts://; default: MQTT_URL."),
    ] = None,
) -> None:
    """Test a broker for everything that the services need, and name the setting that fixes each failure."""
    with _failures():
        prepare_proxies(os.environ)
        settings = load_settings(RunSettings, **({} if url is None else {"mqtt_url": url}))
        configure_logging("error", settings.log_format)
    _execute(_services().check_the_broker(settings, _console()))


def _settings(kind: type[RunSettings]) -> RunSettings:
    with _failures():
        prepare_proxies(os.environ)
        settings = load_settings(kind)
        configure_logging(settings.log_level, settings.log_format)
        warn_of_unsafe_secrets(settings)
        return settings


def _console() -> Console:
    return Console()


def _execute(work: Coroutine[Any, Any, None]) -> None:
    with _failures():
        asyncio.run(work)


@contextmanager
def _failures() -> Iterator[None]:
    """Turn an error that the user can fix into one line and exit code 1, or 2 for a setting.

    Any other error is a bug and shows its traceback.
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


def _misplaced_addresses(arguments: Sequence[str]) -> bool:
    """Whether an argument that complaints would repeat may contain a password or a key."""
    repeated = arguments[2:] if arguments[:1] == ["check-broker"] else arguments
    return any("://" in text or is_key(text) or holds_credentials(text) for text in repeated)


def main() -> None:
    """The `crypto-ingress` program."""
    if _misplaced_addresses(sys.argv[1:]):
        _complain("expected an address only in settings and as the URL of check-broker, got another one (hidden)")
        sys.exit(2)
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        # typer's own output is a box, which breaks paths across lines.
        _complain(error.format_message())
        code = error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
