"""The cost of a candle in JSON and of a frame of Kraken, beside msgspec alone on the same bytes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec

from bench.candle_feed import symbols
from bench.figure import Definition, Group, Outcome, at_most, paired
from bench.market import OPENS, closed_minutes
from bench.rounds import each, in_turn
from ingress_common.model import Candle, Source
from ingress_common.payloads import decode_candle, encode_candle
from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken.protocol import OhlcFrame, parse_frame

_SECONDS = 3.0

# Many different ones, so that caches do not dominate.
_SYMBOLS = 50
_MINUTES = 20

_FRAME = (
    '{{"channel":"ohlc","type":"update","timestamp":"{at}","data":[{{"symbol":"{c.symbol}","open":{c.open},'
    '"high":{c.high},"low":{c.low},"close":{c.close},"trades":{c.trades},"volume":{c.volume},"vwap":{c.vwap},'
    '"interval_begin":"{begin}000Z","interval":1,"timestamp":"{at}"}}]}}'
)


class PlainText(msgspec.Struct, frozen=True):
    """The struct that msgspec alone encodes: the payload's fields in order, times and names as text."""

    exchange: str
    symbol: str
    timeframe: str
    open_time: str
    close_time: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal
    trades: int
    closed: bool
    infilled: bool
    complete: bool
    revision: int
    source: str
    at: str


class PlainCandle(msgspec.Struct, frozen=True):
    """The struct that msgspec alone decodes: the payload's fields with msgspec's own types, unchecked."""

    exchange: str
    symbol: str
    timeframe: Timeframe
    open_time: datetime
    close_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal
    trades: int
    closed: bool
    infilled: bool
    complete: bool
    revision: int
    source: Source
    at: datetime


class PlainRow(msgspec.Struct, frozen=True):
    """A row of a frame, with msgspec's own types."""

    symbol: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    trades: int
    volume: Decimal
    vwap: Decimal
    interval_begin: datetime
    interval: int


class PlainFrame(msgspec.Struct, frozen=True):
    """A frame, with msgspec's own types."""

    channel: str
    type: str
    timestamp: datetime
    data: list[PlainRow]


def measure() -> Mapping[str, Outcome]:
    """All three; AssertionError if msgspec alone reads or writes something else."""
    candles = closed_minutes(symbols(_SYMBOLS), _MINUTES, OPENS)
    payloads = [encode_candle(candle) for candle in candles]
    frames = [_frame(candle) for candle in candles]
    texts = [msgspec.json.decode(payload, type=PlainText) for payload in payloads]
    encode = msgspec.json.Encoder(decimal_format="number").encode
    decode = msgspec.json.Decoder(PlainCandle).decode
    parse = msgspec.json.Decoder(PlainFrame).decode
    _expect([encode(text) for text in texts], payloads)
    _expect([decode_candle(payload) for payload in payloads], candles)
    _expect([_volume(parse_frame(frame)) for frame in frames], [parse(frame).data[0].volume for frame in frames])
    return {
        _ENCODE: _compare(encode_candle, candles, encode, texts),
        _DECODE: _compare(decode_candle, payloads, decode, payloads),
        _PARSE: _compare(parse_frame, frames, parse, frames),
    }


def _frame(candle: Candle) -> str:
    at, begin = (
        f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%dT%H:%M:%S.%f}" for instant in (candle.at, candle.open_time)
    )
    return _FRAME.format(at=f"{at}Z", begin=begin, c=candle)


def _volume(frame: object) -> Decimal | None:
    return frame.rows[0].volume if isinstance(frame, OhlcFrame) and frame.rows else None


def _expect(found: Sequence[object], expected: Sequence[object]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        if ours != theirs:
            raise AssertionError(f"expected {theirs!r}, got {ours!r}")


def _compare(
    ours: Callable[[Any], object], our_inputs: Sequence[Any], theirs: Callable[[Any], object], inputs: Sequence[Any]
) -> Outcome:
    rounds = in_turn(partial(each, ours, our_inputs), partial(each, theirs, inputs), _SECONDS)
    microseconds = [min(costs) * 1e6 for costs in (rounds.ours, rounds.theirs)]
    return paired(rounds.ours, rounds.theirs, f"{microseconds[0]:.2f} us beside {microseconds[1]:.2f} us")


_ENCODE, _DECODE, _PARSE = "codec, encode a candle", "codec, decode a candle", "codec, decode a frame of Kraken"

GROUPS = (
    Group(
        (
            Definition(
                _ENCODE,
                "CPU of `encode_candle` divided by that of msgspec alone, which writes the same bytes from a struct "
                "that holds times and names as text already. Before, it was 10 times that: this is 1/6.",
                at_most(1.67),
            ),
            Definition(
                _DECODE,
                "CPU of `decode_candle`, checks included, divided by that of msgspec alone, which reads the same bytes "
                "into a struct of its own types and checks nothing. Before, it was 8 times that: this is 1/4.",
                at_most(2.0),
            ),
            Definition(
                _PARSE,
                "CPU of `parse_frame` for an update of one row, checks included, divided by that of msgspec alone with "
                "a typed decoder. Before, it was 11.5 times that: this is 1/5.",
                at_most(2.3),
            ),
        ),
        measure,
    ),
)
