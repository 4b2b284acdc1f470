"""From a message of the bus to a row for the store."""

from dataclasses import dataclass
from enum import StrEnum

from ingress_common.bus import Message
from ingress_common.model import Candle
from ingress_common.payloads import PayloadError, decode_candle
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, Topics, symbol_of

AHEAD_SECONDS = 7 * 86_400.0
"""Seconds that a candle may be ahead of our clock: far more than clocks differ, and no store is to keep the rest."""

PAYLOAD_LIMIT = 8 * 1024
"""Bytes that a candle may have; one has about 400. The bus cuts what is longer, so that many fit into memory."""


class Kind(StrEnum):
    """What a row is, and so where and when it is written."""

    CANDLE = "candle"
    FORMING = "forming"
    TICK = "tick"


class Reason(StrEnum):
    """Why a message became a dead letter."""

    TOO_LARGE = "too-large"
    UNDECODABLE = "undecodable"
    IMPLAUSIBLE = "implausible"
    CONTRADICTION = "contradiction"
    REJECTED = "rejected"


class UnusableError(Exception):
    """A message that can never be stored."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Row:
    """A candle or tick, the message that brought it, and when that was taken (unix seconds)."""

    kind: Kind
    candle: Candle
    message: Message
    taken_at: float


def read(topics: Topics, message: Message, now: float) -> Row:
    """The row of `message`, taken at `now` (unix seconds); UnusableError if it is none, not what its topic says, or far
    from having come by then.
    """
    if len(message.payload) > PAYLOAD_LIMIT:
        raise UnusableError(
            Reason.TOO_LARGE, f"expected a candle of at most {PAYLOAD_LIMIT} bytes, got a longer message"
        )
    try:
        candle = decode_candle(message.payload)
    except PayloadError as error:
        raise UnusableError(Reason.UNDECODABLE, str(error)) from None
    try:
        levels = topics.split(message.topic)
        what, exchange, symbol, timeframe = levels
        told = (exchange, symbol_of(symbol), timeframe)
    except (TopicError, ValueError) as error:
        raise UnusableError(Reason.CONTRADICTION, f"expected a topic of candles or ticks: {error}") from None
    carried = (candle.exchange, candle.symbol, candle.timeframe.value)
    if told != carried:
        text = f"expected a candle of {' '.join(told)} on this topic, got one of {' '.join(carried)}"
        raise UnusableError(Reason.CONTRADICTION, text)
    latest = max(candle.open_time, candle.at)
    if latest > now + AHEAD_SECONDS:
        raise UnusableError(Reason.IMPLAUSIBLE, f"expected nothing after {rfc3339(now)}, got {rfc3339(latest)}")
    if what == "raw":
        return Row(Kind.TICK, candle, message, now)
    return Row(Kind.CANDLE if candle.closed else Kind.FORMING, candle, message, now)
