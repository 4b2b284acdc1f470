"""Reads Kraken's trades files (`time,price,volume`) and builds minutes from the trades, block by block."""

from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from crypto_ingress.archive import EARLIEST, LATEST
from crypto_ingress.history.displaced import Displacement, displacements, numbered
from crypto_ingress.history.files import ArchiveFile, FileProblem
from crypto_ingress.history.numbers import DIGITS, decimal, decimals_in, without_exponents
from crypto_ingress.history.pieces import pieces_of, text_table
from crypto_ingress.history.reading import Block, Unknown
from ingress_common.timeframes import Timeframe

_MINUTE = Timeframe.M1.seconds
_TEXTS = {"time": pl.String, "price": pl.String, "volume": pl.String}


def trade_blocks(file: ArchiveFile, latest: float = LATEST) -> Iterator[Block]:
    """The minutes of a trades file, oldest first, as rows like those of `candle_blocks`.

    A trade at `latest` (unix seconds) or later is invalid.

    vwap is truncated, not rounded, to the decimals of the file's prices (`docs/kraken-protocol.md`, fact 12).
    """
    reader = _TradeReader(file.label, latest)
    displaced = displacements(file, latest, repeated=False)
    for number, (lines, read) in enumerate(pieces_of(file, reader.fail)):
        yield reader.block(lines, read, displaced.get(number))
    yield reader.rest(file.size)


def minutes_of_trades(trades: list[tuple[str, str, str]]) -> pl.DataFrame:
    """The minutes of `trades` (time, price, volume as plain texts, oldest first)."""
    return _minutes(_numbers(_frame(trades)))


class _TradeReader:
    def __init__(self, label: str, latest: float) -> None:
        self._label = label
        self._latest = latest
        self._line = 0
        self._trades: pl.DataFrame | None = None  # of the newest minute, which may get more
        self._done = 0  # earlier minutes are complete
        self._unknown_since: int | None = None
        self._problems: list[FileProblem] = []

    def fail(self, reason: str) -> None:
        """Note that the file ends early."""
        self._problems.append(FileProblem(f"{self._label}, after line {self._line}", reason))

    def block(self, lines: bytes, read: int, displacement: Displacement | None = None) -> Block:
        """The complete minutes of the data read so far."""
        unknown: list[Unknown] = []
        texts = _checked(lines, self._latest) if displacement is None else None
        if texts is None:
            texts = self._line_by_line(numbered(lines, self._line + 1, displacement), unknown)
        self._line += lines.count(b"\n")
        trades = _in_time(self._with_pending(texts), self._done, self._label, self._line, self._problems)
        newest = trades["minute"][-1] if trades.height else self._done
        self._trades = trades.filter(pl.col("minute") == newest)
        return self._block(trades.filter(pl.col("minute") < newest), unknown, read)

    def rest(self, read: int) -> Block:
        """The last minute."""
        trades, self._trades = self._trades, None
        return self._block(_numbers(_frame([])) if trades is None else trades, [], read)

    def _with_pending(self, texts: pl.DataFrame) -> pl.DataFrame:
        trades = _numbers(texts)
        if self._trades is None or not self._trades.height:
            return trades
        kinds = [decimal(max(_scale(self._trades[name]), _scale(trades[name]))) for name in ("price", "volume")]
        casts = [pl.col(name).cast(kind) for name, kind in zip(("price", "volume"), kinds, strict=True)]
        return pl.concat([self._trades.with_columns(casts), trades.with_columns(casts)])

    def _block(self, trades: pl.DataFrame, unknown: list[Unknown], read: int) -> Block:
        rows = _minutes(trades)
        for start, end in unknown:
            rows = rows.filter((pl.col("time") < start) | (pl.col("time") >= end))
        if rows.height:
            self._done = rows["time"][-1] + _MINUTE
        problems, self._problems = self._problems, []
        return Block(rows, tuple(unknown), tuple(problems), read)

    def _line_by_line(self, lines: Iterable[tuple[int, bytes]], unknown: list[Unknown]) -> pl.DataFrame:
        good = [_frame([])]
        newest = self._done
        for part in _parts([each for each in lines if each[1].strip()], self._latest):
            if isinstance(part, pl.DataFrame):
                minutes = part["time"].cast(pl.Float64).floor().cast(pl.Int64) // _MINUTE * _MINUTE
                after = minutes[0] + _MINUTE
                if self._unknown_since is not None and after > self._unknown_since:
                    # The broken trade may belong to any minute from the previous trade's to the next one's.
                    if self._unknown_since:
                        unknown.append((self._unknown_since, after))
                    self._unknown_since = None
                newest = max(newest, *minutes)
                good.append(part)
                continue
            number, line = part
            got = line.decode(errors="replace").strip()[:100]
            times = f"a time since {EARLIEST}, when trading at Kraken began, that has passed"
            what = f"expected time,price,volume with {times}, and a price and a volume above 0, got {got!r}"
            self._problems.append(FileProblem(f"{self._label}, line {number}", what))
            if self._unknown_since is None:
                self._unknown_since = newest
        return pl.concat(good)


def _parts(lines: Sequence[tuple[int, bytes]], latest: float) -> Iterator[pl.DataFrame | tuple[int, bytes]]:
    """Valid trades, as many at a time as there are between invalid lines, and these with their numbers."""
    if not lines:
        return
    trades = _checked(b"\n".join(line for _, line in lines), latest)
    if trades is not None and trades.height == len(lines):
        yield trades
    elif len(lines) == 1:
        yield lines[0]
    else:
        middle = len(lines) // 2
        yield from _parts(lines[:middle], latest)
        yield from _parts(lines[middle:], latest)


def _scale(column: pl.Series) -> int:
    kind = column.dtype
    return kind.scale if isinstance(kind, pl.Decimal) else 1


def _frame(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_TEXTS, orient="row")


def _numbers(texts: pl.DataFrame) -> pl.DataFrame:
    """Trades with their `minute`, exact prices and exact volumes."""
    price, volume = decimals_in(texts["price"]), decimals_in(texts["volume"])
    return texts.select(
        at=pl.col("time").cast(pl.Float64),
        minute=pl.col("time").cast(pl.Float64).floor().cast(pl.Int64) // _MINUTE * _MINUTE,
        price=pl.col("price").cast(decimal(price)),
        volume=pl.col("volume").cast(decimal(volume)),
    )


def _checked(lines: bytes, latest: float) -> pl.DataFrame | None:
    """The trades of `lines` as plain texts if all are valid; else None."""
    try:
        texts = text_table(lines, schema=_TEXTS)
        if b"E" in lines or b"e" in lines:
            texts = texts.with_columns([without_exponents(texts[name]) for name in ("price", "volume")])
        if sum(texts.null_count().row(0)) or max(decimals_in(texts[n]) for n in ("price", "volume")) > DIGITS:
            return None
        numbers = _numbers(texts)
    except (pl.exceptions.PolarsError, ArithmeticError):
        return None
    sound = numbers.select(
        (
            pl.col("at").is_between(EARLIEST, latest, closed="left") & (pl.col("price") > 0) & (pl.col("volume") >= 0)
        ).all()
    )
    return texts if sound.item() else None


def _in_time(trades: pl.DataFrame, done: int, label: str, line: int, problems: list[FileProblem]) -> pl.DataFrame:
    """The trades in order of time (stable), without those of minutes that are complete already."""
    late = trades.filter(pl.col("minute") < done).height
    if late:
        problems.append(FileProblem(f"{label}, before line {line}", f"{late} trades come after later ones; not used"))
        trades = trades.filter(pl.col("minute") >= done)
    if not trades["at"].is_sorted():
        what = "trades are not in order of time; sorted"
        problems.append(FileProblem(f"{label}, before line {line}", what, used=True))
        trades = trades.sort("at", maintain_order=True)
    return trades


def _minutes(trades: pl.DataFrame) -> pl.DataFrame:
    price, volume = _scale(trades["price"]), _scale(trades["volume"])
    worth = pl.col("price").cast(decimal(price + volume)) * pl.col("volume")
    rows = (
        trades.with_columns(notional=worth)
        .group_by(pl.col("minute").alias("time"), maintain_order=True)
        .agg(
            open=pl.col("price").first(),
            high=pl.col("price").max(),
            low=pl.col("price").min(),
            close=pl.col("price").last(),
            volume=pl.col("volume").sum(),
            notional=pl.col("notional").sum().to_physical(),
            units=pl.col("volume").sum().to_physical(),
            trades=pl.len().cast(pl.Int64),
        )
    )
    vwap = [
        _price(dividend // units, price) if units else None
        for dividend, units in rows.select("notional", "units").iter_rows()
    ]
    rows = rows.with_columns(vwap=pl.Series(vwap, dtype=pl.String))
    return rows.with_columns(pl.col("vwap").fill_null(pl.col("close").cast(pl.String))).select(
        "time", "open", "high", "low", "close", "volume", "trades", "vwap"
    )


def _price(units: int, scale: int) -> str:
    digits = str(units).zfill(scale + 1)
    return f"{digits[:-scale]}.{digits[-scale:]}"
