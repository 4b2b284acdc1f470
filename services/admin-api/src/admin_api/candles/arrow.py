"""Candles as an Arrow stream or a Parquet file. Imported on demand: the libraries take 7 MiB."""

import io
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

import nanoarrow
from arro3.io import write_parquet
from nanoarrow.ipc import StreamWriter

from admin_api.candles.formats import ARROW_MEDIA_TYPE, Numbers
from ingress_common.candle_csv import COLUMNS
from ingress_common.model import Candle


class Arrow:
    """Arrow's streaming format: `time` as timestamp in UTC; prices and volumes as 64-bit floats, like in InfluxDB, or
    as decimals of 128 bits with 18 digits after the point, vwap with 27.
    """

    media_type = ARROW_MEDIA_TYPE
    suffix = "arrows"

    def __init__(self, numbers: Numbers = Numbers.FLOAT) -> None:
        self._scales = dict.fromkeys(_NUMBERS, None if numbers is Numbers.FLOAT else _SCALE)
        if numbers is Numbers.DECIMAL:
            self._scales["vwap"] = _VWAP_SCALE
        self._kinds: dict[str, Any] = {
            "time": nanoarrow.timestamp("ms", timezone="UTC", nullable=False),
            **{name: _kind(scale) for name, scale in self._scales.items()},
            "trades": nanoarrow.int64(nullable=False),
            "infilled": nanoarrow.bool_(nullable=False),
        }
        self._schema = nanoarrow.struct(self._kinds, nullable=False)
        stream = self._stream([])
        # A message begins with 4 bytes of ones and its length, little-endian.
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
        times = nanoarrow.c_buffer([c.open_time * 1000 for c in candles], nanoarrow.int64())
        children = [
            _array(self._kinds["time"], len(candles), times),
            *(_numbers([getattr(c, name) for c in candles], scale) for name, scale in self._scales.items()),
            nanoarrow.c_array([c.trades for c in candles], self._kinds["trades"]),
            nanoarrow.c_array([c.infilled for c in candles], self._kinds["infilled"]),
        ]
        return nanoarrow.c_array_from_buffers(
            self._schema, length=len(candles), buffers=[None], children=children, null_count=0
        )


def parquet(stream: bytes) -> bytes:
    """An Arrow stream as a Parquet file. Parquet's index is at the end, so this needs the whole range."""
    out = io.BytesIO()
    write_parquet(nanoarrow.ArrayStream.from_readable(stream), out)
    return out.getvalue()


_NUMBERS = COLUMNS[1:7]
_SCALE = 18  # Kraken's prices have up to 10 decimals
_VWAP_SCALE = 27  # a roll-up's vwap has 18 significant digits, and is no less than the lowest price, 1E-10
_rounded = Context(prec=60).quantize


def _kind(scale: int | None) -> Any:
    return nanoarrow.float64(nullable=False) if scale is None else nanoarrow.decimal128(38, scale, nullable=False)


def _numbers(values: list[Decimal], scale: int | None) -> Any:
    if scale is None:
        return nanoarrow.c_array([float(value) for value in values], _kind(scale))
    unit = Decimal(1).scaleb(-scale)
    whole = (int(_rounded(value, unit).scaleb(scale)) for value in values)
    return _array(_kind(scale), len(values), b"".join(number.to_bytes(16, "little", signed=True) for number in whole))


def _array(kind: Any, length: int, data: Any) -> Any:
    return nanoarrow.c_array_from_buffers(kind, length=length, buffers=[None, data], null_count=0)
