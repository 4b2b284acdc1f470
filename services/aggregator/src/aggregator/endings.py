"""The end of a symbol: whether gateways still follow it, and its last windows, which close at their end. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from msgspec.structs import replace

from ingress_common.model import GRACE, Candle, FeedState, InstanceState, Status
from ingress_common.symbols import matches
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339

LAST_SECONDS = 3.0
"""Seconds after the end of a symbol in which its last updates may still arrive."""

UNOWNED_SECONDS = 30.0
"""A symbol that matches the gateways' patterns counts as ended after this many seconds without an owner: it may be
moving between two gateways.
"""

_NEVER = float("-inf")


class Standing(Enum):
    """A symbol's state at the gateways."""

    CARRIED = auto()
    """A live feed carries it."""
    ENDED = auto()
    """Kraken does not trade it any more, or refuses it."""
    LEFT = auto()
    """It matches the SYMBOLS of no gateway. Whether it trades on is not known."""
    UNKNOWN = auto()
    """A gateway is about to carry it, no gateway is online, or one does not know its symbols yet."""


@dataclass(frozen=True, slots=True)
class _Gateway:
    """The status of a gateway."""

    patterns: tuple[str, ...]
    owned: frozenset[str]
    kraken_time: float

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> "_Gateway":
        """The gateway with these details in its status."""
        return cls(
            tuple(_texts(details.get("patterns"))), frozenset(_texts(details.get("owned_since"))), _kraken_time(details)
        )


class Following:
    """Which symbols the gateways follow, by their status and their feeds' states."""

    def __init__(self) -> None:
        self._gateways: dict[str, _Gateway] = {}
        self._rejected: dict[str, frozenset[str]] = {}
        self._since: dict[str, float] = {}

    def status(self, status: Status) -> None:
        """Process a gateway's status."""
        if status.state is InstanceState.ONLINE:
            self._gateways[status.instance] = _Gateway.of(status.details)
        else:
            self._gateways.pop(status.instance, None)

    def feed(self, state: FeedState) -> None:
        """Process a feed's state."""
        self._rejected[state.feed] = frozenset(state.rejected)

    def forget(self, feed: str) -> None:
        """The feed's retained state was deleted."""
        self._rejected.pop(feed, None)

    @property
    def kraken_time(self) -> float:
        """The latest time (unix seconds, Kraken's) that a gateway has reported; minus infinity if none has."""
        return max((gateway.kraken_time for gateway in self._gateways.values()), default=_NEVER)

    @property
    def ending(self) -> frozenset[str]:
        """The symbols that seem to have ended, whether that has lasted long enough or not."""
        return frozenset(self._since)

    def standing(self, symbol: str, carried: Collection[str], now: float) -> Standing:
        """The standing of `symbol` at `now` (steady seconds). `carried`: the symbols of live feeds. An end counts only
        after LAST_SECONDS or UNOWNED_SECONDS without interruption.
        """
        standing, seconds = self._seen(symbol, carried)
        if not seconds:
            self._since.pop(symbol, None)
            return standing
        return standing if now - self._since.setdefault(symbol, now) >= seconds else Standing.UNKNOWN

    def _seen(self, symbol: str, carried: Collection[str]) -> tuple[Standing, float]:
        """How it stands by the latest messages, and for how many seconds that must last."""
        if symbol in carried:
            return Standing.CARRIED, 0.0
        if any(symbol in rejected for rejected in self._rejected.values()):
            return Standing.ENDED, LAST_SECONDS
        gateways = self._gateways.values()
        owned = any(symbol in gateway.owned for gateway in gateways)
        if owned or not gateways or not all(gateway.patterns for gateway in gateways):
            return Standing.UNKNOWN, 0.0
        if any(matches(gateway.patterns, symbol) for gateway in gateways):
            return Standing.ENDED, UNOWNED_SECONDS
        return Standing.LEFT, LAST_SECONDS


class Endings:
    """The open windows of ended symbols: the last state of each, which becomes its closed candle."""

    def __init__(self) -> None:
        self._last: dict[str, dict[Timeframe, Candle]] = {}

    @property
    def symbols(self) -> frozenset[str]:
        """The symbols that have such windows."""
        return frozenset(self._last)

    def add(self, candle: Candle) -> None:
        """Add the last state of a window."""
        self._last.setdefault(candle.symbol, {})[candle.timeframe] = candle

    def remove(self, symbol: str, timeframe: Timeframe) -> None:
        """The window is closed, or its symbol is followed anew."""
        windows = self._last.get(symbol, {})
        windows.pop(timeframe, None)
        if not windows:
            self._last.pop(symbol, None)

    def of(self, symbol: str) -> tuple[Timeframe, ...]:
        """The timeframes of `symbol` that have such a window, lowest first."""
        windows = self._last.get(symbol, {})
        return tuple(timeframe for timeframe in TIMEFRAMES if timeframe in windows)

    def due(self, symbol: str, now: float) -> list[Candle]:
        """The closed candles of the windows of `symbol` that are over at `now` (unix seconds), lowest first."""
        windows = self._last.get(symbol, {})
        over = [windows[t] for t in TIMEFRAMES if t in windows and windows[t].close_time + GRACE <= now]
        return [replace(candle, closed=True, at=now) for candle in over]


def _texts(value: object) -> list[str]:
    """The strings of a list, or the keys of an object, in a status of any version."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list | dict) else []


def _kraken_time(details: Mapping[str, Any]) -> float:
    try:
        return parse_rfc3339(str(details.get("kraken_time")))
    except (ValueError, OverflowError):
        return _NEVER
