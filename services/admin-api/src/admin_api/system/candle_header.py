"""The header of a candle: identity and state. Candles that are only passed on need no exact decimals."""

from collections.abc import Callable
from typing import Annotated, Any, cast

import msgspec

from ingress_common.payloads import PayloadError, decode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.times import UnixSeconds, UnixTime, parse_instant, rfc3339

_MOST_BYTES = 16 * 1024
_Number = Annotated[float, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class CandleHeader(msgspec.Struct, frozen=True, gc=False):
    """A candle with floats; decoding costs a fifth of an exact one (`ingress_common.model.Candle`)."""

    symbol: str
    timeframe: Timeframe
    open_time: UnixSeconds
    open: _Number
    high: _Number
    low: _Number
    close: _Number
    volume: _Number
    vwap: _Number
    trades: _Count
    closed: bool
    infilled: bool
    complete: bool
    revision: _Count
    at: UnixTime

    @property
    def version(self) -> tuple[float, int]:
        """The order of a candle's states: `at`, then revision."""
        return self.at, self.revision


_decode: Callable[[bytes], CandleHeader] = msgspec.json.Decoder(
    CandleHeader, dec_hook=cast("Callable[[type[Any], Any], Any]", parse_instant)
).decode


def decode_header(payload: bytes) -> CandleHeader:
    """The header of a candle's payload; PayloadError if the payload is no valid candle.

    Closed candles and minutes are checked in full. For other forming candles, which arrive every second and are
    replaced, the digits of the numbers are not checked.
    """
    if len(payload) > _MOST_BYTES:
        raise PayloadError(f"expected a Candle of at most {_MOST_BYTES} bytes, got {len(payload)}")
    try:
        candle = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(f"expected a Candle as JSON: {error}") from None
    if candle.closed or candle.timeframe is Timeframe.M1:
        decode_candle(payload)
        return candle
    if not (candle.low <= candle.open <= candle.high and candle.low <= candle.close <= candle.high):
        raise PayloadError(f"expected low <= open, close <= high, got {payload[:500]!r}")
    if candle.open_time % candle.timeframe.seconds:
        raise PayloadError(
            f"expected an open_time aligned to {candle.timeframe.value}, got {rfc3339(candle.open_time)}"
        )
    return candle
