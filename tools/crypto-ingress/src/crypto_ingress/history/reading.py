"""Reads archive files block by block: parses in columns, and line by line if a block has a broken row.

Broken rows never stop a file. Each is reported, and the time around it is unknown, so nothing is infilled there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import DecimalException
from types import MappingProxyType

import polars as pl

from crypto_ingress.archive import EARLIEST, LATEST, ArchiveRow, parse_row
from crypto_ingress.history.displaced import Displacement, displacements, numbered
from crypto_ingress.history.files import ArchiveFile, FileProblem
from crypto_ingress.history.numbers import DIGITS, VOLUME_DECIMALS, decimal, decimals_in, without_exponents
from crypto_ingress.history.pieces import pieces_of, text_table
from ingress_common.decimals import plain

PRICES = ("open", "high", "low", "close")
_NUMBERS = (*PRICES, "volume")
_TEXTS = {"time": pl.Int64, **dict.fromkeys(_NUMBERS, pl.String), "trades": pl.Int64}
_IN_ORDER: Mapping[int, Displacement] = MappingProxyType({})
_NO_VWAP = pl.lit(None, dtype=pl.String).alias("vwap")

Unknown = tuple[int, int]
"""A half-open range of time (unix seconds) without usable data in a file."""


@dataclass(frozen=True, slots=True)
class Block:
    """Valid rows, oldest first: time, open, high, low, close, volume, trades, and vwap (null if the file has none).

    Prices and volumes are exact decimals; all prices have one scale, all volumes another. `read`: bytes of the file
    read so far.
    """

    rows: pl.DataFrame
    unknown: tuple[Unknown, ...]
    problems: tuple[FileProblem, ...]
    read: int


def candle_blocks(
    file: ArchiveFile, step: int, latest: float = LATEST, displaced: Mapping[int, Displacement] = _IN_ORDER
) -> Iterator[Block]:
    """The rows of an OHLCVT file whose candles are `step` seconds long, block by block.

    A row that opens at `latest` (unix seconds) or later is invalid. `displaced`: rows to take in an earlier block;
    without it a row that comes after its block is reported and not used.
    """
    reader = _CandleReader(file.label, step, latest)
    for number, (lines, read) in enumerate(pieces_of(file, reader.fail)):
        yield reader.block(lines, read, displaced.get(number))
    reader.end()
    if reader.problems:
        yield reader.block(b"", file.size)


def sorted_blocks(file: ArchiveFile, step: int, latest: float = LATEST) -> Iterator[Block]:
    """Like `candle_blocks`, with displaced rows in the block of their time; reads the file once more for that."""
    yield from candle_blocks(file, step, latest, displacements(file, latest, repeated=True))


class _CandleReader:
    def __init__(self, label: str, step: int, latest: float) -> None:
        self._label = label
        self._step = step
        self._latest = latest
        self._line = 0
        self._last = -step
        self._unknown_since: int | None = None  # start of a range without usable data
        self.problems: list[FileProblem] = []
        self._used: dict[str, tuple[int, FileProblem]] = {}  # by what was done, the number of rows and the last one

    def fail(self, reason: str) -> None:
        """The file ends early."""
        self.problems.append(FileProblem(f"{self._label}, after line {self._line}", reason))

    def end(self) -> None:
        """The file is read: report the number of repeated and of moved rows, and the last ones."""
        for count, last in self._used.values():
            if count > 1:
                what = f"{last.what}; the last of {count:,} such rows"
                self.problems.append(FileProblem(last.where, what, used=True))

    def block(self, lines: bytes, read: int, displacement: Displacement | None = None) -> Block:
        """The next rows."""
        unknown: list[Unknown] = []
        rows = _checked(lines, self._last, self._step, self._latest) if displacement is None else None
        if rows is None:
            rows = self._line_by_line(numbered(lines, self._line + 1, displacement), unknown)
        elif self._unknown_since is not None and rows.height:
            unknown.append((self._unknown_since, rows["time"][0]))
            self._unknown_since = None
        self._line += lines.count(b"\n")
        if rows.height:
            self._last = rows["time"][-1]
        problems, self.problems = self.problems, []
        return Block(rows, tuple(unknown), tuple(problems), read)

    def _line_by_line(self, lines: Iterable[tuple[int, bytes]], unknown: list[Unknown]) -> pl.DataFrame:
        found: dict[int, ArchiveRow] = {}
        contradicted: set[int] = set()
        before = self._last
        for number, line in lines:
            if not line.strip():
                continue
            place = f"{self._label}, line {number}"
            try:
                row = _bounded(parse_row(line, self._step), self._latest)
            except ValueError as error:
                self.problems.append(FileProblem(place, str(error)))
                # The broken row hides a candle whose time is unknown.
                if self._unknown_since is None and before >= 0:
                    self._unknown_since = before + self._step
                continue
            if self._unknown_since is not None and row.open_time >= self._unknown_since:
                if row.open_time > self._unknown_since:
                    unknown.append((self._unknown_since, row.open_time))
                self._unknown_since = None
            if row.open_time > before:
                before = row.open_time
                found[row.open_time] = row
            elif row == found.get(row.open_time):
                self._note_used(place, f"the row of {row.open_time} is repeated", "used once")
            elif row.open_time in found:
                self.problems.append(
                    FileProblem(place, f"a second row of {row.open_time}, with other numbers; neither is used")
                )
                contradicted.add(row.open_time)
            elif row.open_time <= self._last:
                self.problems.append(
                    FileProblem(place, f"expected a time after {self._last}, got {row.open_time}; not used")
                )
            else:
                self._note_used(place, f"expected a time after {before}, got {row.open_time}", "moved to its place")
                found[row.open_time] = row
        unknown.extend((time, time + self._step) for time in sorted(contradicted))
        return _frame([found[time] for time in sorted(found) if time not in contradicted])

    def _note_used(self, place: str, what: str, done: str) -> None:
        """Report the first such row of the file; `end` reports the last one and their number."""
        problem = FileProblem(place, f"{what}; {done}", used=True)
        count, _ = self._used.get(done, (0, problem))
        if not count:
            self.problems.append(problem)
        self._used[done] = (count + 1, problem)


def _bounded(row: ArchiveRow, latest: float) -> ArchiveRow:
    if row.open_time >= latest:
        raise ValueError(f"expected a time that has passed, got {row.open_time}")
    for number in (row.open, row.high, row.low, row.close, row.volume):
        exponent = number.as_tuple().exponent
        whole = len(str(int(number)))
        if whole > DIGITS or (number is not row.volume and isinstance(exponent, int) and exponent < -DIGITS):
            raise ValueError(f"expected at most {DIGITS} digits before and after the point, got {number}")
    if row.trades >= 2**63:
        raise ValueError(f"expected trades to fit into 64 bits, got {row.trades}")
    if row.open_time < EARLIEST:
        raise ValueError(f"expected a time since {EARLIEST}, when trading at Kraken began, got {row.open_time}")
    return row


def _frame(rows: list[ArchiveRow]) -> pl.DataFrame:
    texts = [(r.open_time, *(plain(getattr(r, name)) for name in _NUMBERS), r.trades) for r in rows]
    return exact_rows(pl.DataFrame(texts, schema=_TEXTS, orient="row")).with_columns(_NO_VWAP)


def exact_rows(texts: pl.DataFrame) -> pl.DataFrame:
    """Convert plain texts to exact decimals: prices of one scale, volumes of another; `vwap` stays text.

    InvalidOperationError if a text is not a number or a price has more than `DIGITS` decimals.
    """
    price = max(decimals_in(texts[name]) for name in PRICES)
    volume = min(decimals_in(texts["volume"]), VOLUME_DECIMALS)
    if price > DIGITS:
        raise pl.exceptions.InvalidOperationError(f"expected at most {DIGITS} decimals, got {price}")
    return texts.with_columns(pl.col(PRICES).cast(decimal(price)), pl.col("volume").cast(decimal(volume)))


def _checked(lines: bytes, last: int, step: int, latest: float) -> pl.DataFrame | None:
    """The rows of `lines` if all are valid, later than `last` and before `latest`; else None."""
    if not lines:
        return _frame([])
    try:
        texts = text_table(lines, schema=_TEXTS)
        if b"E" in lines or b"e" in lines:
            texts = texts.with_columns([without_exponents(texts[name]) for name in _NUMBERS])
        rows = exact_rows(texts).with_columns(_NO_VWAP)
    except (pl.exceptions.PolarsError, DecimalException):
        return None
    if sum(texts.null_count().row(0)):
        return None
    sound = rows.select(
        times=((pl.col("time") % step == 0) & pl.col("time").is_between(EARLIEST, latest, closed="left")).all(),
        order=(pl.col("time").diff().fill_null(pl.col("time") - last) > 0).all(),
        prices=(
            (pl.col("low") >= 0)
            & (pl.col("low") <= pl.col("open"))
            & (pl.col("low") <= pl.col("close"))
            & (pl.col("open") <= pl.col("high"))
            & (pl.col("close") <= pl.col("high"))
        ).all(),
        rest=((pl.col("volume") >= 0) & (pl.col("trades") >= 1)).all(),
        digits=pl.max_horizontal(pl.col("high", "volume").cast(pl.Float64)).max() < 10.0**DIGITS,
    )
    return rows if all(sound.row(0)) else None
