"""Requests to republish closed candles: merged while they wait, and served in portions."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ingress_common.model import Candle
from ingress_common.timeframes import TIMEFRAMES

_NAMES = 16
"""Names kept of each symbol's requests. A writer that gets no response repeats its request under a new name."""

Published = Callable[[str, float, float], Sequence[Candle]]
"""The published closed candles of a symbol whose `at` is in a range, lower timeframes first, oldest first."""

Republished = tuple[Candle, str | None]
"""A candle to republish, and the name of the request whose response ends with it, if any."""


@dataclass(slots=True)
class _Wanted:
    """What the requests for one symbol want: candles with `at` from `start` to `end`, and the `names` to respond to."""

    start: float
    end: float
    names: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Response:
    """The response that is being published; `last`: its last published candle."""

    symbol: str
    wanted: _Wanted
    last: Candle | None = None


class Republishing:
    """Requests in rounds: one round is served while the requests of the next one gather.

    The requests of a symbol in one round are merged into one over all of their ranges. A request that arrives during a
    round waits for the next one, because its candles may have been republished before it.
    """

    def __init__(self, published: Published) -> None:
        self._published = published
        self._round: dict[str, _Wanted] = {}
        self._next_round: dict[str, _Wanted] = {}
        self._response: _Response | None = None
        self._requested = asyncio.Event()

    def __len__(self) -> int:
        """Number of responses to come: at most two for each symbol."""
        return len(self._round) + len(self._next_round) + (self._response is not None)

    @property
    def in_round(self) -> bool:
        """Whether a round has begun and is not over."""
        return bool(self._round) or self._response is not None

    def request(self, symbols: Iterable[str], start: float, end: float, name: str | None) -> int:
        """Queue a request for `symbols`, which the caller limits. Returns how many earlier names it displaces: their
        candles are republished, without the name.
        """
        displaced = 0
        for symbol in symbols:
            wanted = self._next_round.setdefault(symbol, _Wanted(start, end))
            wanted.start, wanted.end = min(start, wanted.start), max(end, wanted.end)
            if name and name not in wanted.names:
                displaced += len(wanted.names) == _NAMES
                wanted.names = [*wanted.names, name][-_NAMES:]
            self._requested.set()
        return displaced

    async def requested(self) -> None:
        """Wait until something is to be republished."""
        await self._requested.wait()

    def portion(self, most: int) -> list[Republished]:
        """The next candles of the round, or of a new one: about `most`, or none if the requests select none.

        They are as published by now, so publish them before anything else: a correction must not be overtaken by what
        it corrects.
        """
        if not self.in_round:
            self._round, self._next_round = self._next_round, {}
        portion: list[Republished] = []
        while self.in_round and len(portion) < most:
            portion += self._next(most - len(portion))
        if not self:
            self._requested.clear()
        return portion

    def _next(self, most: int) -> list[Republished]:
        """The next candles of one symbol. The last candle of a response is repeated for each further name."""
        if self._response is None:
            symbol = next(iter(self._round))
            self._response = _Response(symbol, self._round.pop(symbol))
        response, wanted = self._response, self._response.wanted
        candles = self._published(response.symbol, wanted.start, wanted.end)
        last = response.last
        # If those that were left are no longer kept, the last one is repeated, because it has to name the request.
        rest = [c for c in candles if last is None or _place(c) > _place(last)] or candles[-1:]
        if len(rest) > most:
            response.last = rest[most - 1]
            return [(candle, None) for candle in rest[:most]]
        self._response = None
        names: Sequence[str | None] = wanted.names or [None]
        return [(candle, None) for candle in rest[:-1]] + [(candle, name) for candle in rest[-1:] for name in names]


def _place(candle: Candle) -> tuple[int, int]:
    return TIMEFRAMES.index(candle.timeframe), candle.open_time
