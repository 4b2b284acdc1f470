"""Replays recorded trades: a response of Kraken's REST Trades."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from kraken_simulator.errors import SourceError
from kraken_simulator.pairs import VOLUME_UNITS, SimulatedPair
from kraken_simulator.sources.placement import shift_to_now
from kraken_simulator.sources.port import StreamSource
from kraken_simulator.tape import TapeTrade
from kraken_simulator.text import NANOS, decimals_of, units


def recorded_source(symbol: str, path: Path, *, now: float, play_from: float | None = None) -> StreamSource:
    """Return the source of a REST Trades response in a file, shifted to `now`. SourceError if it is malformed."""
    rows = _rows(path)
    try:
        decimals = max(1, *(decimals_of(row[0]) for row in rows))
        trades = sorted(
            (
                TapeTrade(
                    int(row[2].scaleb(9)),
                    units(row[0], decimals),
                    units(row[1], VOLUME_UNITS),
                    row[3] == "s",
                    row[4] == "l",
                )
                for row in rows
            ),
            key=lambda trade: trade.time,
        )
    except (IndexError, TypeError, AttributeError) as error:
        message = f"{path}: expected rows [price, volume, time, b/s, m/l, ...], found another shape ({error})"
        raise SourceError(message) from error
    shift = shift_to_now(trades[0].time // NANOS, trades[-1].time // NANOS, now, play_from) * NANOS
    return StreamSource(SimulatedPair(symbol, decimals), _moved(trades, shift))


def _moved(trades: list[TapeTrade], shift: int) -> Iterator[TapeTrade]:
    return (trade._replace(time=trade.time + shift) for trade in trades)


def _rows(path: Path) -> list[Any]:
    try:
        response = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror})"
        raise SourceError(message) from error
    except ValueError as error:
        message = f"{path}: expected JSON of Kraken's REST Trades, was something else ({error})"
        raise SourceError(message) from error
    result = response.get("result") if isinstance(response, dict) else None
    rows = next((rows for key, rows in result.items() if key != "last"), None) if isinstance(result, dict) else None
    if not isinstance(rows, list) or not rows:
        message = f"{path}: expected trades under result, found none"
        raise SourceError(message)
    return rows
