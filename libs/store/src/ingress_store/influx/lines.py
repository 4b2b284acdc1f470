"""Candles and ticks as line protocol, with their exact decimals."""

import math

from ingress_common.model import Candle
from ingress_store.influx.names import CANDLE, TICK

_MAX_INTEGER = 2**63 - 1
_LATEST = 9_223_372_036  # unix seconds; InfluxDB's nanoseconds end in the year 2262
_NUMBERS = ("open", "high", "low", "close", "volume", "vwap")
_SPECIAL = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})


class LineError(ValueError):
    """A candle that line protocol cannot hold; the message states what was expected and what was received."""


class Lines:
    """Renders lines; caches the tags of each series."""

    def __init__(self) -> None:
        self._tags: dict[tuple[str, str], str] = {}

    def candle(self, c: Candle) -> str:
        """A line of a candle bucket, time in seconds. LineError if line protocol cannot hold it.

        `at` (microseconds), `complete` and `source` go beyond the contract, so that a candle is read back as it was
        published.
        """
        return f"{CANDLE}{self._tags_of(c)} {_fields(c)},at={microseconds(c.at)}i {c.open_time}"

    def tick(self, c: Candle) -> str:
        """A line of the tick bucket, time in nanoseconds: `at` in microseconds, and its minute in the digits below.

        One frame may hold the last state of a minute and the first of the next; with the same time they would be one
        point. LineError if line protocol cannot hold it.
        """
        fields = _fields(c)
        time = microseconds(c.at) * 1000 + c.open_time // 60 % 1000
        return f"{TICK}{self._tags_of(c)} {fields},open_time={c.open_time}i {time}"

    def _tags_of(self, c: Candle) -> str:
        series = c.exchange, c.symbol
        tags = self._tags.get(series)
        if tags is None:
            for text in series:
                if not text or not text.isprintable() or text.endswith("\\") or len(text) > 1000:
                    raise LineError(f"expected a name without control characters, got {text[:100]!r}")
            tags = f",exchange={c.exchange.translate(_SPECIAL)},symbol={c.symbol.translate(_SPECIAL)}"
            self._tags[series] = tags
        return tags


def microseconds(instant: float) -> int:
    """`instant` (unix seconds) in microseconds."""
    return round(instant * 1_000_000)


def _fields(c: Candle) -> str:
    if not (
        c.open.is_finite()
        and c.high.is_finite()
        and c.low.is_finite()
        and c.close.is_finite()
        and c.volume.is_finite()
        and c.vwap.is_finite()
        and c.trades <= _MAX_INTEGER
        and c.revision <= _MAX_INTEGER
        and abs(c.at) < _LATEST
        and abs(c.open_time) < _LATEST
    ):
        raise LineError(_problem(c))
    return (
        f"open={c.open},high={c.high},low={c.low},close={c.close},volume={c.volume},vwap={c.vwap},trades={c.trades}i,"
        f"closed={c.closed},infilled={c.infilled},revision={c.revision}i,complete={c.complete},"
        f'source="{c.source.value}"'
    )


def _problem(c: Candle) -> str:
    for name in _NUMBERS:
        value = getattr(c, name)
        if not value.is_finite():
            return f"expected {name} to be a finite number, got {value}"
    for name in ("trades", "revision"):
        number: int = getattr(c, name)
        if number > _MAX_INTEGER:
            return f"expected {name} to fit into 64 bits, got {number}"
    instant = next(i for i in (c.open_time, c.at) if not (math.isfinite(i) and abs(i) < _LATEST))
    return f"expected open_time and at to be instants before the year 2262, got {instant}"
