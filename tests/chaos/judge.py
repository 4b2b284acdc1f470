"""The judge: compares store and bus with the true trades. Pure, and without any of our code.

Every window from the first expected one to the last ended one must have one closed candle. It has the numbers of its
trades; without trades it is flat at the price of the last true trade before it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "4h": 14_400, "1d": 86_400, "1w": 604_800}
PRICES = ("open", "high", "low", "close")
_VOLUME_ERROR = 1e-9


class Verdict(StrEnum):
    """The kinds of wrong candles."""

    MISSING = "missing"
    WRONG = "wrong"
    DUPLICATE = "duplicate"
    INVENTED = "invented"


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A candle in the store or retained on the bus. Numbers are exact `Decimal`; open_time in unix seconds.

    `series` distinguishes rows of one identity. `complete` None: unknown.
    """

    symbol: str
    timeframe: str
    open_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal
    trades: int
    closed: bool
    infilled: bool
    complete: bool | None = None
    revision: int = 0
    source: str = ""
    at: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True)
class TrueCandle:
    """The true candle of a window with trades."""

    open_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int


@dataclass(frozen=True, slots=True)
class Truth:
    """The true candles of a symbol and timeframe, oldest first, all from `begins` (unix seconds) on."""

    candles: tuple[TrueCandle, ...]
    begins: int = 0
    _opens: list[int] = field(default_factory=list)
    _closes: set[Decimal] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Build the indexes."""
        self._opens.extend(candle.open_time for candle in self.candles)
        self._closes.update(candle.close for candle in self.candles)

    def at(self, open_time: int) -> TrueCandle | None:
        """The true candle that opens then; None without trades."""
        place = bisect_left(self._opens, open_time)
        found = place < len(self._opens) and self._opens[place] == open_time
        return self.candles[place] if found else None

    def price_before(self, open_time: int) -> Decimal | None:
        """The price of the last trade before `open_time`."""
        place = bisect_left(self._opens, open_time)
        return self.candles[place - 1].close if place else None

    def was_last(self, price: Decimal) -> bool:
        """Whether a window has ever ended with this price."""
        return price in self._closes


@dataclass(frozen=True, slots=True)
class Finding:
    """One bad candle: its place, the fault, and the candles around it."""

    verdict: Verdict
    where: str
    symbol: str
    timeframe: str
    open_time: int
    text: str
    neighbours: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The finding as lines."""
        head = f"{self.verdict} {self.where} {self.symbol} {self.timeframe} {moment(self.open_time)}: {self.text}"
        return "\n    ".join((head, *self.neighbours))


def judge_store(
    rows: Iterable[StoredRow],
    truth: Truth,
    symbol: str,
    timeframe: str,
    *,
    since: float,
    now: float,
    read_by: float | None = None,
    settle: float = 15,
) -> tuple[list[Finding], int]:
    """The findings of a symbol and timeframe in the store, and the number of compared windows.

    `since` (unix seconds): windows that opened after it must exist even if no earlier one does. `now`: start of
    reading the rows; `read_by`: its end, if that took some time. A window must exist `settle` seconds after its end.
    """
    by_time: dict[int, list[StoredRow]] = {}
    for row in rows:
        by_time.setdefault(row.open_time, []).append(row)
    closed = {at: found[0] for at, found in by_time.items() if found[0].closed}
    size = SECONDS[timeframe]
    last = int((now - settle) // size) * size - size
    first = min([*closed, -int(-since // size) * size])
    findings = [
        _finding(Verdict.DUPLICATE, "store", found[0], f"{len(found)} rows: {', '.join(row.series for row in found)}")
        for found in by_time.values()
        if len(found) > 1
    ]
    findings += _early(closed.values(), size, now if read_by is None else read_by)
    windows = range(first, last + 1, size)
    for open_time in windows:
        row = closed.get(open_time)
        if row is None:
            true, left = truth.at(open_time), by_time.get(open_time)
            traded = f"{true.trades} trades" if true else "no trades"
            text = f"not there, had {traded}" + (f", left forming: {_text(left[0])}" if left else "")
            found = Finding(Verdict.MISSING, "store", symbol, timeframe, open_time, text)
        elif fault := fault_of(row, truth):
            found = _finding(fault[0], "store", row, fault[1])
        else:
            continue
        findings.append(_with_neighbours(found, closed, truth, size))
    return findings, len(windows)


def judge_retained(
    row: StoredRow | None,
    truth: Truth,
    symbol: str,
    timeframe: str,
    *,
    now: float,
    read_by: float | None = None,
    settle: float = 15,
) -> list[Finding]:
    """The findings of a topic's retained candle; None if it is right.

    `now`: start of reading; `read_by`: its end, if that took some time.
    """
    read_by = now if read_by is None else read_by
    size = SECONDS[timeframe]
    newest = int((now - settle) // size) * size
    where = "retained"
    if row is None:
        return [Finding(Verdict.MISSING, where, symbol, timeframe, newest, "nothing is retained")]
    if (row.symbol, row.timeframe) != (symbol, timeframe):
        return [Finding(Verdict.WRONG, where, symbol, timeframe, row.open_time, f"is of {row.symbol} {row.timeframe}")]
    if found := list(_early([row] if row.closed else [], size, read_by, where)):
        return found
    # The newest candle may still be the previous window's.
    if row.open_time < (newest - size if row.closed else newest):
        text = f"stale, expected {moment(newest)} or the closed one before it, got {_text(row)}"
        return [_finding(Verdict.MISSING, where, row, text)]
    fault = fault_of(row, truth) if row.closed else _forming_fault(row, truth, read_by)
    return [_finding(fault[0], where, row, fault[1])] if fault else []


def _early(closed: Iterable[StoredRow], size: int, now: float, where: str = "store") -> Iterator[Finding]:
    for row in closed:
        if row.open_time + size > now:
            yield _finding(Verdict.INVENTED, where, row, f"closed before its end: {_text(row)}")


def fault_of(row: StoredRow, truth: Truth) -> tuple[Verdict, str] | None:
    """What is wrong with a closed candle."""
    true = truth.at(row.open_time)
    if true is None:
        return _flat_fault(row, truth)
    wrong = [
        f"{name}: expected {getattr(true, name)}, got {getattr(row, name)}"
        for name in (*PRICES, "trades")
        if getattr(row, name) != getattr(true, name)
    ]
    if not _near(row.volume, true.volume):
        wrong.append(f"volume: expected {true.volume}, got {row.volume}")
    # Kraken cuts vwap off, so that of one price may be a digit below none.
    if not wrong and not row.low <= row.vwap <= row.high:
        wrong.append(f"vwap: expected {row.low} to {row.high}, got {row.vwap}")
    if row.infilled:
        wrong.append("infilled despite trades")
    if row.complete is False:
        wrong.append("not complete")
    return (Verdict.WRONG, f"{'; '.join(wrong)}; {_provenance(row)}") if wrong else None


def _flat_fault(row: StoredRow, truth: Truth) -> tuple[Verdict, str] | None:
    if row.trades or row.volume:
        return Verdict.INVENTED, f"expected no trades, got {_text(row)}"
    price = truth.price_before(row.open_time)
    if price is None or {row.open, row.high, row.low, row.close, row.vwap} != {price}:
        known = all(truth.was_last(getattr(row, name)) for name in PRICES)
        verdict = Verdict.WRONG if known else Verdict.INVENTED
        return verdict, f"expected flat at {price}, got {_text(row)}"
    if not row.infilled or row.complete is False:
        return Verdict.WRONG, f"expected infilled and complete, got {_text(row)}"
    return None


def _forming_fault(row: StoredRow, truth: Truth, now: float) -> tuple[Verdict, str] | None:
    """What is wrong with a forming candle: it may lack the newest trades but have no invented ones."""
    true = truth.at(row.open_time)
    if row.open_time > now:
        return Verdict.INVENTED, f"has not begun: {_text(row)}"
    if row.trades == 0:
        price = truth.price_before(row.open_time)
        flat = {row.open, row.high, row.low, row.close} == {price}
        return None if flat else (Verdict.WRONG, f"expected flat at {price}, got {_text(row)}")
    if true is None or row.trades > true.trades:
        return Verdict.INVENTED, f"expected at most {true.trades if true else 0} trades, got {_text(row)}"
    if row.open != true.open or row.high > true.high or row.low < true.low:
        return Verdict.WRONG, f"expected {_true_text(true)}, got {_text(row)}"
    return None


def _near(one: Decimal, other: Decimal) -> bool:
    return abs(float(one) - float(other)) <= _VOLUME_ERROR * max(1.0, float(other))


def _finding(verdict: Verdict, where: str, row: StoredRow, text: str) -> Finding:
    return Finding(verdict, where, row.symbol, row.timeframe, row.open_time, text)


def _with_neighbours(found: Finding, closed: Mapping[int, StoredRow], truth: Truth, size: int) -> Finding:
    lines = []
    for open_time in range(found.open_time - 2 * size, found.open_time + 3 * size, size):
        row, true = closed.get(open_time), truth.at(open_time)
        stored = _text(row) if row else "not there"
        lines.append(f"{moment(open_time)}  stored {stored}; true {_true_text(true) if true else 'no trades'}")
    return Finding(found.verdict, found.where, found.symbol, found.timeframe, found.open_time, found.text, tuple(lines))


def _text(row: StoredRow) -> str:
    numbers = f"{row.open} {row.high} {row.low} {row.close} volume {row.volume} trades {row.trades}"
    return f"{numbers} ({_provenance(row)})"


def _provenance(row: StoredRow) -> str:
    state = "closed" if row.closed else "forming"
    flags = "".join(
        f", {flag}" for flag, on in (("infilled", row.infilled), ("incomplete", row.complete is False)) if on
    )
    return f"{state}{flags}, revision {row.revision}, source {row.source}, at {row.at}"


def _true_text(true: TrueCandle) -> str:
    return f"{true.open} {true.high} {true.low} {true.close} volume {true.volume} trades {true.trades}"


def moment(open_time: float) -> str:
    """A time as text."""
    return f"{datetime.fromtimestamp(open_time, UTC):%F %T}"
