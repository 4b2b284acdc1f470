"""Measures on the bus: delay of closed candles after their window's end, age of ticks and of forming candles."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from chaos.judge import SECONDS
from ingress_common.bus import BusError, Message
from ingress_common.bus.mqtt import MqttBus

_FIELD = re.compile(rb'"open_time":"([^"]+)".*"closed":(true|false).*"revision":(\d+).*"at":"([^"]+)"')

_FIRST_SECONDS = 2.0


@dataclass(slots=True)
class Seen:
    """Delays in seconds: of closed candles after their window's end, of raw ticks and forming candles after receipt.

    Forming candles of a minute's first seconds stand apart: they wait for the watermark to end the minute before.
    """

    closed: dict[str, dict[int, dict[str, float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    raw: list[float] = field(default_factory=list)
    forming: list[float] = field(default_factory=list)
    forming_at_first: list[float] = field(default_factory=list)
    messages: int = 0
    stored_messages: int = 0
    """Maximum number of messages at the broker, including retained ones."""


@lru_cache(maxsize=4096)
def _instant(text: bytes) -> float:
    return datetime.fromisoformat(text.decode()).timestamp()


class Observer:
    """Follows the candles of `timeframes` on the broker at `url`, in a thread's loop of its own or any other."""

    def __init__(self, url: Callable[[], str], timeframes: tuple[str, ...]) -> None:
        self._url = url
        self._filters = ["ingress/raw/kraken/+/1m", *(f"ingress/candles/kraken/+/{t}" for t in timeframes)]
        self.seen = Seen()
        self._since = 0.0

    async def run(self) -> None:
        """Measure until cancelled, over restarts of the broker."""
        while True:
            try:
                async with MqttBus(self._url(), client_id="load-observer", inbound_limit=60_000) as bus:
                    await bus.subscribe(*self._filters, "$SYS/broker/store/messages/count")
                    async for event in bus.events():
                        if isinstance(event, Message):
                            event.ack()
                            self._take(event, time.time())
            except BusError:
                await asyncio.sleep(0.5)

    def reset(self) -> None:
        """Start counting. Windows that have ended already are left out: their candles come from seeds and repairs."""
        self.seen = Seen()
        self._since = time.time()

    def _take(self, message: Message, now: float) -> None:
        self.seen.messages += 1
        if message.topic.startswith("$SYS"):
            self.seen.stored_messages = max(self.seen.stored_messages, int(message.payload))
            return
        found = _FIELD.search(message.payload)
        if message.retain or found is None:
            return
        open_time, closed, revision, at = found.groups()
        _, kind, _, symbol, timeframe = message.topic.split("/")
        if closed == b"false":
            if timeframe != "1m":
                return  # once a second
            received = _instant(at)
            if kind == "raw":
                ages = self.seen.raw
            else:
                at_first = received - _instant(open_time) < _FIRST_SECONDS
                ages = self.seen.forming_at_first if at_first else self.seen.forming
            ages.append(now - received)
            return
        window = int(_instant(open_time))
        delay = now - window - SECONDS[timeframe]
        # Seeds, repairs and corrections are not about the way.
        if revision == b"0" and delay < SECONDS[timeframe] and window + SECONDS[timeframe] > self._since:
            self.seen.closed[timeframe][window].setdefault(symbol, delay)
