"""Measures on the bus: delay of closed candles after their window's end, and age of forming ones."""

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


@dataclass(slots=True)
class Seen:
    """Delays in seconds: of closed candles after their window's end, and of forming ones after their tick."""

    closed: dict[str, dict[int, dict[str, float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    ticks: list[float] = field(default_factory=list)
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
        self._filters = [f"ingress/candles/kraken/+/{timeframe}" for timeframe in timeframes]
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
        _, _, _, symbol, timeframe = message.topic.split("/")
        if closed == b"false":
            self.seen.ticks.append(now - _instant(at))
            return
        window = int(_instant(open_time))
        delay = now - window - SECONDS[timeframe]
        # Seeds, repairs and corrections are not about the way.
        if revision == b"0" and delay < SECONDS[timeframe] and window + SECONDS[timeframe] > self._since:
            self.seen.closed[timeframe][window].setdefault(symbol, delay)
