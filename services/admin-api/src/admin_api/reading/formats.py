"""Candles for bulk reads: the columns of `crypto-ingress export`, as CSV or as an Arrow stream.

Both are made of parts that follow each other, a head and any number of pages, so that a long range never has to be in
memory as a whole.
"""

import io
from collections.abc import Sequence
from typing import Any, Protocol

import nanoarrow
from nanoarrow.ipc import StreamWriter

from ingress_common.model import Candle

COLUMNS = ("time", "open", "high", "low", "close", "volume", "vwap", "trades", "infilled")
"""Unix seconds, exact decimals, and whether nothing traded (0 or 1)."""


class Format(Protocol):
    """How candles are written."""

    media_type: str
    suffix: str

    def head(self) -> bytes:
        """What comes first."""
        ...

    def page(self, candles: Sequence[Candle]) -> bytes:
        """Some candles."""
        ...

    def tail(self) -> bytes:
        """What comes last."""
        ...


class Csv:
    """A header and a row for each candle; prices and volumes with their exact decimals."""

    media_type = "text/csv; charset=utf-8; header=present"
    suffix = "csv"

    def head(self) -> bytes:
        """The header."""
        return (",".join(COLUMNS) + "\n").encode()

    def page(self, candles: Sequence[Candle]) -> bytes:
        """A row for each."""
        return "".join(
            f"{c.open_time},{c.open:f},{c.high:f},{c.low:f},{c.close:f},{c.volume:f},{c.vwap:f},{c.trades},{c.infilled:d}\n"
            for c in candles
        ).encode()

    def tail(self) -> bytes:
        """Nothing."""
        return b""


class Arrow:
    """Arrow's streaming format: `time` as timestamp in UTC, prices and volumes as 64-bit floats, like in InfluxDB."""

    media_type = "application/vnd.apache.arrow.stream"
    suffix = "arrows"

    def __init__(self) -> None:
        self._kinds: dict[str, Any] = {
            "time": nanoarrow.timestamp("s", timezone="UTC", nullable=False),
            **{name: nanoarrow.float64(nullable=False) for name in COLUMNS[1:7]},
            "trades": nanoarrow.int64(nullable=False),
            "infilled": nanoarrow.bool_(nullable=False),
        }
        self._schema = nanoarrow.struct(self._kinds, nullable=False)
        stream = self._stream([])
        # A message begins with 4 bytes of ones and the length of what follows, little-endian.
        self._head = stream[: 8 + int.from_bytes(stream[4:8], "little")]

    def head(self) -> bytes:
        """The schema."""
        return self._head

    def page(self, candles: Sequence[Candle]) -> bytes:
        """A record batch; empty without candles."""
        return self._stream(candles)[len(self._head) : -len(self.tail())] if candles else b""

    def tail(self) -> bytes:
        """The end of the stream."""
        return b"\xff\xff\xff\xff\x00\x00\x00\x00"

    def _stream(self, candles: Sequence[Candle]) -> bytes:
        """A whole stream: schema, one batch, end."""
        out = io.BytesIO()
        with StreamWriter.from_writable(out) as writer:
            writer.write_array(self._batch(candles))
        return out.getvalue()

    def _batch(self, candles: Sequence[Candle]) -> Any:
        columns: dict[str, list[Any]] = {
            "time": [c.open_time for c in candles],
            **{name: [float(getattr(c, name)) for c in candles] for name in COLUMNS[1:7]},
            "trades": [c.trades for c in candles],
            "infilled": [c.infilled for c in candles],
        }
        children = [_column(values, self._kinds[name]) for name, values in columns.items()]
        return nanoarrow.c_array_from_buffers(
            self._schema, length=len(candles), buffers=[None], children=children, null_count=0
        )


def _column(values: list[Any], kind: Any) -> Any:
    if kind.type == nanoarrow.Type.TIMESTAMP:
        seconds = nanoarrow.c_buffer(values, nanoarrow.int64())
        return nanoarrow.c_array_from_buffers(kind, length=len(values), buffers=[None, seconds], null_count=0)
    return nanoarrow.c_array(values, kind)
