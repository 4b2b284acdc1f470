"""The implementation of the commands on archive files."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from crypto_ingress.archive import ArchiveError
from crypto_ingress.errors import CommandError
from crypto_ingress.history.backfilling import Backfiller, MinuteSource
from crypto_ingress.history.checking import BY_INTERVAL, FileCheck
from crypto_ingress.history.exporting import FileFormat, NumberType, Span, export_columns, export_csv, span_of
from crypto_ingress.history.files import ArchiveFile, ArchiveListing, FileProblem, find_files
from crypto_ingress.history.importing import Importer
from crypto_ingress.history.kraken_rest import last_candles, with_retries
from crypto_ingress.history.numbers import TooManyDigitsError
from crypto_ingress.history.prefetch import prefetched
from crypto_ingress.history.reading import candle_blocks
from crypto_ingress.history.reports import SymbolReport, check_lines, report_lines
from crypto_ingress.history.rollup import roll_up
from crypto_ingress.history.stored import StoredNumberError
from crypto_ingress.history.verifying import Verifier, findings_lines
from crypto_ingress.history.weeks import Weeks, in_weeks
from crypto_ingress.progress import ProgressReport
from crypto_ingress.tables import csv_files
from ingress_common.candle_csv import COLUMNS
from ingress_common.health import some
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import topic_symbol
from ingress_store import CandleStore, Retention, StoreUnavailableError
from kraken_gateway.kraken.rest import KrakenRest


@dataclass(frozen=True, slots=True)
class Export:
    """What to export: candles of some series that open from `start` up to `end` (unix seconds; None: no limit).

    `out`: a file, or a folder for several series.
    """

    symbols: tuple[str, ...]
    timeframes: tuple[Timeframe, ...]
    start: float | None
    end: float | None
    out: Path
    form: FileFormat
    numbers: NumberType


@dataclass(frozen=True, slots=True)
class Verification:
    """What to verify: `symbols` (empty: all), weeks from `start` to `end` (unix seconds). `fix`: correct errors.

    `retention`: candles older than that need not be stored.
    """

    symbols: tuple[str, ...]
    start: int | None
    end: int | None
    fix: bool
    retention: Retention = field(default_factory=Retention)


WriteLine = Callable[[str], None]
"""Writes a line of a report."""


def rollup(path: Path, symbol: str, out: Path, progress: ProgressReport) -> None:
    """Roll up an archive file of 1m candles into one CSV file per timeframe in the folder `out`.

    ArchiveError at the first bad row, OutputError if a file cannot be written.
    """
    file = _minutes_file(path, symbol)
    with csv_files({timeframe.value: out / f"{timeframe.value}.csv" for timeframe in TIMEFRAMES}) as tables:
        for weeks, frames in prefetched(_rolled_up(file)):
            for timeframe, candles in frames:
                rows = candles.select(pl.col(COLUMNS).exclude("infilled"), pl.col("infilled").cast(pl.Int8))
                rows.write_csv(tables[timeframe.value], include_header=False)
            progress(weeks.read, file.size)


def _rolled_up(file: ArchiveFile) -> Iterator[tuple[Weeks, list[tuple[Timeframe, pl.DataFrame]]]]:
    """The candles of a file in all timeframes, some weeks at a time. ArchiveError at the first bad row."""
    for weeks in prefetched(in_weeks(candle_blocks(file, Timeframe.M1.seconds))):
        if weeks.problems:
            raise ArchiveError(str(weeks.problems[0]))
        try:
            yield weeks, list(roll_up(weeks))
        except TooManyDigitsError as error:
            raise ArchiveError(f"{file.label}: {error}") from None


def _minutes_file(path: Path, symbol: str) -> ArchiveFile:
    if path.is_dir():
        raise ArchiveError(f"{path}: cannot be read: Is a directory")
    found = find_files([path], symbol)
    if found.problems:
        raise ArchiveError(str(found.problems[0]))
    if len(found.files) != 1 or found.files[0].interval is None:
        raise ArchiveError(f"{path}: expected one file of 1m candles, got {len(found.files)} files or trades")
    file = found.files[0]
    if file.interval != 1:
        raise ArchiveError(f"{path}: expected candles of 1 minute, got candles of {file.interval} minutes")
    return file


async def import_files(
    store: CandleStore,
    paths: Sequence[Path],
    symbol: str | None,
    expect_kept: Callable[[float], None],
    write_line: WriteLine,
    progress: ProgressReport,
) -> None:
    """Import archive files into the store, symbol by symbol; `write_line` gets the report.

    `expect_kept` gets the first open time and raises if the store's retention is too short. CommandError at the end if
    anything was wrong; valid rows are imported.
    """
    found = find_files(paths, symbol)
    if found.files:
        expect_kept(min(file.first for file in found.files))
    problems = list(found.problems)
    by_symbol: dict[str, list[ArchiveFile]] = {}
    for file in found.files:
        by_symbol.setdefault(file.symbol, []).append(file)
    total = sum(file.size for file in found.files if file.interval in (1, None))
    read: dict[str, float] = {}

    def advance(label: str, done: float, _size: float) -> None:
        read[label] = done
        progress(sum(read.values()), total)

    importer = Importer(store, time.time, advance)
    reports: list[SymbolReport] = []
    for name, files in sorted(by_symbol.items()):
        try:
            report = await importer.run(name, files)
        except StoreUnavailableError as error:
            rest = len(by_symbol) - len(reports) - 1
            raise CommandError(
                f"{name}: {error}; repeat the import to continue; {rest} symbols after this one are not imported"
            ) from error
        except StoredNumberError as error:
            problems.append(FileProblem(f"{name} 1m in the store", str(error)))
            continue
        reports.append(report)
        for line in report_lines(report):
            write_line(line)
    for problem in problems:
        write_line(f"not imported: {problem}")
    _name_unread(found, write_line)
    _judge(problems, reports)


async def backfill(
    store: CandleStore,
    source: MinuteSource,
    symbols: Sequence[str],
    start: float,
    end: float | None,
    write_line: WriteLine,
    progress: ProgressReport,
) -> None:
    """Fill gaps in past minutes from `source`. CommandError if the source fails."""
    filler = Backfiller(store, source, time.time, progress)
    for report in await filler.run(symbols, int(start), None if end is None else int(end)):
        for line in report_lines(report):
            write_line(line)


async def export(store: CandleStore, wanted: Export, progress: ProgressReport) -> None:
    """Export closed candles to one file, or to one file per series. CommandError for a symbol without candles."""
    known = await store.symbols()
    for symbol in wanted.symbols:
        if symbol not in known:
            raise CommandError(
                f"{store.location} has no candles of {symbol}, only of these symbols: {', '.join(known) or 'none'}"
            )
    several = len(wanted.symbols) * len(wanted.timeframes) > 1
    for symbol in wanted.symbols:
        for timeframe in wanted.timeframes:
            name = f"{topic_symbol(symbol)}-{timeframe.value}.{wanted.form.value}"
            path = wanted.out / name if several else wanted.out
            series = store.series(symbol, timeframe)
            span = await span_of(series, timeframe, wanted.start, wanted.end)

            def report_progress(done: int, span: Span = span) -> None:
                progress(done - span.start, span.end - span.start)

            try:
                if wanted.form is FileFormat.CSV:
                    await export_csv(series, timeframe, span, path, report_progress)
                else:
                    await export_columns(series, timeframe, span, path, wanted.form, wanted.numbers, report_progress)
            except StoredNumberError as error:
                raise CommandError(f"{symbol} {timeframe.value} {error}") from None


async def verify(
    store: CandleStore,
    wanted: Verification,
    paths: Sequence[Path],
    kraken: KrakenRest | None,
    write_line: WriteLine,
    progress: ProgressReport,
) -> None:
    """Compare stored candles with each other, with archive files and, if `kraken` is given, with Kraken's.

    CommandError if anything was wrong, even if it has been fixed.
    """
    symbols = wanted.symbols or tuple(await store.symbols())
    unknown = sorted(set(symbols) - set(await store.symbols()))
    if unknown:
        raise CommandError(f"{store.location} has no candles of {', '.join(unknown)}")
    wrong: list[str] = []
    kraken_candles = None if kraken is None else last_candles(kraken, await with_retries(kraken.pairs))
    verifier = Verifier(
        store,
        time.time,
        kraken_candles,
        fix=wanted.fix,
        start=wanted.start,
        end=wanted.end,
        retention=wanted.retention,
    )
    for number, symbol in enumerate(symbols):
        try:
            found = await verifier.run(symbol)
        except StoredNumberError as error:
            write_line(f"{symbol}: {error}")
            wrong.append(symbol)
            continue
        for line in findings_lines(found):
            write_line(line)
        if found.total:
            wrong.append(symbol)
        progress(number + 1, len(symbols))
    wrong += await _against_files(store, paths, wanted, symbols, write_line)
    if wrong:
        named = list(dict.fromkeys(wrong))
        raise CommandError(f"differences in {', '.join(named[:5])}{' ...' if len(named) > 5 else ''}: see the report")
    write_line(f"{len(symbols)} symbols: nothing wrong")


async def _against_files(
    store: CandleStore, paths: Sequence[Path], wanted: Verification, symbols: Sequence[str], write_line: WriteLine
) -> list[str]:
    """The symbols and files with errors. `symbols`: those that are verified."""
    found = find_files(paths, None)
    if len(symbols) == 1 and not found.files:
        # Names that contain no pair: files of the one symbol.
        found = find_files(paths, symbols[0])
    wrong = [problem.where for problem in found.problems]
    for problem in found.problems:
        write_line(f"not used: {problem}")
    _name_unread(found, write_line)
    others = [file for file in found.files if file.symbol not in symbols]
    if others and not wanted.symbols:
        absent = sorted({file.symbol for file in others})
        write_line(f"the store has no candles of {some(absent)}; expected those of the files")
        wrong += absent
    elif others:
        write_line(f"not used: {len(others):,} of the files: their symbols are not verified, such as {others[0].label}")
    for file in found.files:
        if file.symbol not in symbols:
            continue
        timeframe = BY_INTERVAL.get(file.interval or 0)
        if timeframe is None:
            what = f"candles of {file.interval} minutes" if file.interval else "trades, not candles"
            write_line(f"not used: {file.label}: {what}")
            continue
        check = FileCheck(file, timeframe)
        now, seconds = int(time.time()), wanted.retention.candles[timeframe]
        kept = Span(0 if seconds is None else now - seconds, now)
        if not await check.check_store(store.series(file.symbol, timeframe), kept):
            since = f" since {rfc3339(kept.start)}, by RETENTION" if seconds is not None else ""
            write_line(f"{file.symbol}: the store has no {timeframe.value}; expected those of the file{since}")
        for line in check_lines(check):
            write_line(line)
        if check.differing or check.problems or check.twice:
            wrong.append(file.symbol)
    return wrong


def _name_unread(found: ArchiveListing, write_line: WriteLine) -> None:
    if found.unread:
        named = ", ".join(found.unread[:5]) + (" ..." if len(found.unread) > 5 else "")
        write_line(f"not read, because their names do not end in .csv or .zip: {len(found.unread):,}: {named}")


def _judge(problems: list[FileProblem], reports: list[SymbolReport]) -> None:
    """CommandError that names the first problem, if there is one."""
    count = len(problems) + sum(report.problem_count for report in reports)
    first = next(iter([*problems, *(problem for report in reports for problem in report.problems)]), None)
    if first is not None:
        raise CommandError(f"{first}" + (f" (and {count - 1:,} more, see the report)" if count > 1 else ""))
    odd = [report.symbol for report in reports if report.odd]
    if odd:
        raise CommandError(f"differences in {', '.join(odd[:5])}{' ...' if len(odd) > 5 else ''}: see the report")
