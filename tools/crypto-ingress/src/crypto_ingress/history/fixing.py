"""Corrections of wrong stored candles by the laws of `docs/design.md`, with a higher revision."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any

import polars as pl

from crypto_ingress.history.candle_checks import Before, CandleFinding, FindingKind, usable
from ingress_common.decimals import plain
from ingress_common.model import Source
from ingress_common.timeframes import Timeframe
from ingress_store.bulk import BulkRow

_exact = Context(prec=60)
_quotient = Context(prec=18).divide
_REMOVED = (FindingKind.MISALIGNED, FindingKind.STALE)
_FLATTENED = (FindingKind.NOT_FLAT, FindingKind.INFILLED_TRADES, FindingKind.NOT_INFILLED, FindingKind.IMPOSSIBLE)


@dataclass(slots=True)
class Correction:
    """Rows to write, and open times (unix seconds) of rows to remove before that."""

    rows: list[BulkRow] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)


def correction(
    timeframe: Timeframe,
    candles: pl.DataFrame,
    before: Before,
    children: pl.DataFrame | None,
    findings: Iterable[CandleFinding],
    rebuild: Iterable[int],
    left: Collection[int],
    at: float,
) -> Correction:
    """The correction of `findings` about `candles`, from stored data alone.

    It rebuilds the windows in `rebuild` from `children`, removes invalid rows, and makes infilled candles flat if the
    previous close is known. Of repeated rows the newest stays, if it is closed; the live stream writes forming ones.
    `candles`: by `candle_checks.newest_last`. `left`: windows over wrong children, whose numbers stay. `at`: the time
    of the correction (unix seconds).
    """
    found = Correction()
    by_time = {row["time"]: row for row in candles.iter_rows(named=True)}
    made = set(rebuild)
    closes = dict(usable(timeframe, candles).select("time", "close").iter_rows())
    if before.time is not None and before.close is not None:
        closes[before.time] = before.close
    if children is not None:
        found.rows += _roll_up(timeframe, children, made, by_time, at)
        closes |= {row[0]: row[4] for row in found.rows}
    # In the order of time: an infilled candle is flat at the close that the candle before it then has.
    for finding in sorted(findings, key=lambda finding: finding.time):
        time = finding.time
        if finding.kind is FindingKind.DUPLICATE or (finding.kind in _REMOVED and time not in made):
            found.removed.append(time)
        elif finding.kind is FindingKind.FUTURE and by_time[time]["at"] < time:
            # A row that was received after it opens may be right, and this machine's clock wrong.
            found.removed.append(time)
        if finding.kind is FindingKind.DUPLICATE and time not in made and by_time[time]["closed"]:
            found.rows.append(_rewritten(by_time[time], at))
        elif finding.kind in _FLATTENED and time not in made:
            close = closes.get(time - timeframe.seconds)
            # A candle with trades is marked wrongly; only Kraken knows its prices.
            if close is not None and time not in left and not by_time[time]["trades"]:
                found.rows.append(_flat(time, close, by_time[time], at))
                closes[time] = close
            else:
                closes.pop(time, None)
    return found


def row_of(
    time: int, numbers: Mapping[str, str], trades: int, source: Source, replaced: Mapping[str, Any] | None, at: float
) -> BulkRow:
    """A closed candle that replaces `replaced`; its revision is one higher if `replaced` is closed."""
    revision = replaced["revision"] + 1 if replaced is not None and replaced["closed"] else 0
    o, h, low, c, volume, vwap = (numbers[name] for name in ("open", "high", "low", "close", "volume", "vwap"))
    newest = max(at, replaced["at"]) if replaced is not None else at
    return (time, o, h, low, c, volume, vwap, trades, True, not trades, True, revision, source.value, newest)


def _flat(time: int, close: str, replaced: Mapping[str, Any], at: float) -> BulkRow:
    numbers = {**dict.fromkeys(("open", "high", "low", "close", "vwap"), close), "volume": "0.0"}
    return row_of(time, numbers, 0, Source.INFILL, replaced, at)


def _rewritten(row: Mapping[str, Any], at: float) -> BulkRow:
    return row_of(row["time"], row, row["trades"], Source(row["source"]), row, at)


def _roll_up(
    timeframe: Timeframe, children: pl.DataFrame, windows: set[int], stored: Mapping[int, Mapping[str, Any]], at: float
) -> list[BulkRow]:
    """Exact candles of `windows`, all of whose children exist."""
    inside: dict[int, list[dict[str, Any]]] = {}
    for child in children.filter("closed").iter_rows(named=True):
        window = timeframe.floor(child["time"])
        if window in windows:
            inside.setdefault(window, []).append(child)
    rows = []
    for window, parts in sorted(inside.items()):
        traded = [part for part in parts if part["trades"]]
        if not traded:
            rows.append(_flat_window(window, parts[-1]["close"], stored.get(window), at))
            continue
        volume = notional = Decimal(0)
        for part in traded:
            volume = _exact.add(volume, Decimal(part["volume"]))
            notional = _exact.add(notional, _exact.multiply(Decimal(part["vwap"]), Decimal(part["volume"])))
        numbers = {
            "open": traded[0]["open"],
            "high": max((part["high"] for part in traded), key=Decimal),
            "low": min((part["low"] for part in traded), key=Decimal),
            "close": traded[-1]["close"],
            "volume": plain(volume),
            "vwap": plain(_quotient(notional, volume)) if volume else traded[-1]["close"],
        }
        trades = sum(part["trades"] for part in traded)
        rows.append(row_of(window, numbers, trades, Source.ROLLUP, stored.get(window), at))
    return rows


def _flat_window(window: int, close: str, stored: Mapping[str, Any] | None, at: float) -> BulkRow:
    numbers = {**dict.fromkeys(("open", "high", "low", "close", "vwap"), close), "volume": "0.0"}
    return row_of(window, numbers, 0, Source.INFILL, stored, at)
