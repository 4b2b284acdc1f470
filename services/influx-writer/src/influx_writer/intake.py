"""Decode messages of the bus to candles for the store."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from ingress_common.bus import Message
from ingress_common.model import Candle
from ingress_common.payloads import PayloadError, decode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import Topics

AHEAD_SECONDS = 7 * 86_400.0
"""Seconds that a candle may be ahead of now."""

CLOSED_AHEAD_SECONDS = 120.0
"""Seconds that the end of a closed candle may be ahead of now: nobody closes one before its end."""

PAYLOAD_LIMIT = 8 * 1024
"""Maximum size of a candle in bytes; typical are 400. The bus truncates longer messages to bound the memory."""


class RowKind(StrEnum):
    """The kind of a row, which decides where and when it is written."""

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


class AheadError(UnusableError):
    """A message whose time is too far ahead."""

    def __init__(self, text: str) -> None:
        super().__init__(Reason.IMPLAUSIBLE, text)


class PendingRow(NamedTuple):
    """A candle or tick, the acknowledgement of its message, and when that was received (unix seconds).

    The message itself would take twice the memory of the candle.
    """

    candle: Candle
    ack: Callable[[], None]
    taken_at: float


class Intake:
    """Decodes messages."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def read(self, message: Message, now: float) -> tuple[RowKind, Candle]:
        """The kind and candle of a message received at `now` (unix seconds).

        UnusableError if it is no candle or contradicts its topic, AheadError if it is too far ahead of `now`.
        """
        if len(message.payload) > PAYLOAD_LIMIT:
            raise UnusableError(
                Reason.TOO_LARGE, f"expected a candle of at most {PAYLOAD_LIMIT} bytes, got a longer message"
            )
        try:
            candle = decode_candle(message.payload)
        except PayloadError as error:
            raise UnusableError(Reason.UNDECODABLE, str(error)) from None
        if message.topic == self._topics.candles(candle.symbol, candle.timeframe):
            kind = RowKind.CANDLE if candle.closed else RowKind.FORMING
        elif candle.timeframe is Timeframe.M1 and message.topic == self._topics.raw(candle.symbol):
            kind = RowKind.TICK
        else:
            got = f"{candle.symbol} {candle.timeframe.value}"
            raise UnusableError(Reason.CONTRADICTION, f"expected the candle of {message.topic}, got one of {got}")
        latest = max(candle.open_time, candle.at)
        if latest > now + AHEAD_SECONDS:
            raise AheadError(f"expected nothing after {rfc3339(now)}, got {rfc3339(latest)}")
        if candle.closed and candle.close_time > now + CLOSED_AHEAD_SECONDS:
            raise AheadError(
                f"expected a candle that is closed at {rfc3339(now)}, got one until {rfc3339(candle.close_time)}"
            )
        return kind, candle
