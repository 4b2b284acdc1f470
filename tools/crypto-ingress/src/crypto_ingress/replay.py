"""Replays an archive file onto the bus in the gateway's place, through aggregator and writer into the store."""

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from operator import attrgetter

from crypto_ingress.errors import ReplayError
from ingress_common.bus import Bus, Connected, Message
from ingress_common.logs import get_logger
from ingress_common.model import (
    GRACE,
    Candle,
    FeedCondition,
    FeedState,
    History,
    Range,
    Source,
    Watermark,
)
from ingress_common.payloads import (
    PayloadError,
    decode_candle,
    decode_history_request,
    decode_seed_request,
    encode_candle,
    encode_feed_state,
    encode_history,
    encode_watermark,
)
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.topics import Topics
from ingress_store import CandleStore

log = get_logger(__name__)

_MINUTE = Timeframe.M1.seconds
# Maximum lead in minutes over the aggregator's closed candles. At two messages a minute, the backlog stays below the
# 1,000 messages that a broker with default settings queues.
_AHEAD_OF_BUS = 400
# Maximum lead in minutes over the store: below an aggregator's memory, so that a writer can still request everything
# it has missed.
_AHEAD_OF_STORE = 600
# Number of windows of the store that one query covers.
_LOOK_WINDOWS = 10_000
_LOOK_SECONDS = 0.05
_BATCH = 720
_KEEP_ALIVE_SECONDS = 1.0
_STALLED_SECONDS = 120.0


class Replay:
    """Publishes 1m candles as ticks and watermarks of one feed, and responds to seed and history requests.

    It runs as fast as the store follows, or at `speed` minutes of the file per minute. `clock` (unix seconds) gives the
    messages' time of receipt; the market time is the file's.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        store: CandleStore,
        symbol: str,
        candles: Sequence[Candle],
        clock: Callable[[], float],
        speed: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._store = store
        self._symbol = symbol
        self._candles = candles
        self._clock = clock
        self._speed = speed
        self._progress = progress or (lambda _: None)
        self._feed = "replay-" + topics.raw(symbol).split("/")[-2]
        self._first = candles[0].open_time
        self._end = candles[-1].close_time
        # Kraken's time. It starts at the first row, because the aggregator refuses a feed that leaps days ahead.
        self._now = float(self._first) + GRACE
        self._closed = self._first - _MINUTE  # newest closed minute that the aggregator has published
        self._moved = asyncio.Event()
        self._seeded = asyncio.Event()

    async def run(self) -> None:
        """Replay the whole file and wait until the store has all of it.

        ReplayError if there is no progress for two minutes.
        """
        async with self._bus, asyncio.TaskGroup() as tasks:
            await self._bus.subscribe(
                self._topics.seed_requests(),
                self._topics.history_requests(),
                self._topics.candles(self._symbol, Timeframe.M1),
            )
            background = [
                tasks.create_task(self._respond(), name="replay.respond"),
                tasks.create_task(self._keep_alive(), name="replay.keep-alive"),
            ]
            await self._publish_feed(FeedCondition.LIVE)
            try:
                await self._wait(self._seeded.is_set, "an aggregator to request its seed")
                await self._play()
                await self._until_stored()
            finally:
                await self._publish_feed(FeedCondition.DOWN)
            for task in background:
                task.cancel()

    # --- playing -----------------------------------------------------------------------------------------------------

    async def _play(self) -> None:
        at = 0
        stored = self._first - _MINUTE
        for minute in range(self._first, self._end, _MINUTE):
            if at < len(self._candles) and self._candles[at].open_time == minute:
                tick = self._candles[at]
                await self._bus.publish(self._topics.raw(self._symbol), encode_candle(tick))
                at += 1
            self._now = minute + _MINUTE + GRACE
            await self._publish_watermark()
            if self._speed is not None:
                await asyncio.sleep(_MINUTE / self._speed)
            await self._wait(lambda m=minute: self._closed >= m - _AHEAD_OF_BUS * _MINUTE, "the aggregator's candles")  # type: ignore[misc]
            if minute - stored > _AHEAD_OF_STORE * _MINUTE:
                stored = minute - _AHEAD_OF_STORE // 2 * _MINUTE
                await self._poll(partial(self._is_stored, stored), "the last minutes")
            if minute % 36_000 == 0:
                self._progress(minute - self._first)
        self._progress(self._end - self._first)

    async def _until_stored(self) -> None:
        """Wait until the store has every closed candle. A late one may be older than the newest that is there."""
        for timeframe in TIMEFRAMES:
            end = timeframe.floor(self._end)
            step = _LOOK_WINDOWS * timeframe.seconds
            for start in range(timeframe.floor(self._first), end, step):
                span = Range(start, min(start + step, end))
                await self._poll(partial(self._has_all, timeframe, span), f"all candles of {timeframe.value}")

    async def _has_all(self, timeframe: Timeframe, span: Range) -> bool:
        bounds = {"start": span.start, "end": span.end}
        first = await self._store.candles(self._symbol, timeframe, **bounds, limit=1)
        last = await self._store.newest_candles(self._symbol, timeframe, **bounds, limit=1)
        if not first or first[0].open_time > span.start or last[0].close_time < span.end:
            return False
        return all(gap.symbol != self._symbol for gap in await self._store.gaps(timeframe, **bounds))

    async def _is_stored(self, open_time: int) -> bool:
        """Whether the store has the minute of `open_time`, or a later one."""
        return bool(await self._store.newest_candles(self._symbol, Timeframe.M1, start=open_time, limit=1))

    async def _poll(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = self._clock() + _STALLED_SECONDS
        while not await condition():
            if self._clock() > deadline:
                raise ReplayError(f"the store does not have {what} after two minutes")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            self._moved.clear()
            try:
                async with asyncio.timeout(_STALLED_SECONDS):
                    await self._moved.wait()
            except TimeoutError:
                raise ReplayError(f"waited two minutes for {what}") from None

    # --- the gateway's part ------------------------------------------------------------------------------------------

    async def _respond(self) -> None:
        async for event in self._bus.events():
            if isinstance(event, Connected):
                await self._publish_feed(FeedCondition.LIVE)
                continue
            try:
                await self._take(event)
            except PayloadError as error:
                log.warning("message.rejected", topic=event.topic, reason=str(error))
            event.ack()

    async def _take(self, message: Message) -> None:
        match self._topics.split(message.topic):
            case ("candles", *_):
                candle = decode_candle(message.payload)
                if candle.closed and not message.retain:
                    self._closed = max(self._closed, candle.open_time)
                    self._moved.set()
            case ("request", _, "seed"):
                if self._symbol in decode_seed_request(message.payload).symbols:
                    await self._seed()
                    self._seeded.set()
                    self._moved.set()
            case ("request", _, "history"):
                request = decode_history_request(message.payload)
                if self._symbol in request.symbols and request.timeframe is Timeframe.M1:
                    await self._publish_minutes(request.range.start, min(request.range.end, self._now))

    async def _seed(self) -> None:
        """Publish the minutes of this week and the previous one, and empty batches of the higher timeframes.

        The previous week is for an aggregator that takes over just after its end and still has to close its 1w candle.
        """
        now = self._now
        start = Timeframe.W1.floor(now) - Timeframe.W1.seconds
        await self._publish_minutes(max(start, Timeframe.W1.floor(self._first)), now)
        for timeframe in TIMEFRAMES[1:]:
            await self._publish_history(History(self._symbol, timeframe, Source.ARCHIVE, Range(now, now), ()))

    async def _publish_minutes(self, start: float, end: float) -> None:
        first = bisect_left(self._candles, start, key=attrgetter("open_time"))
        last = bisect_left(self._candles, Timeframe.M1.floor(end), key=attrgetter("open_time"))
        for i in range(first, max(last, first + 1), _BATCH):
            rows = self._candles[i : min(i + _BATCH, last)]
            done = i + _BATCH >= last
            until = end if done else rows[-1].close_time
            covers = Range(start, max(start, until))
            await self._publish_history(History(self._symbol, Timeframe.M1, Source.ARCHIVE, covers, tuple(rows)))
            start = until

    async def _publish_history(self, history: History) -> None:
        await self._bus.publish(self._topics.history(history.symbol, history.timeframe), encode_history(history))

    async def _publish_feed(self, condition: FeedCondition) -> None:
        since = float(Timeframe.W1.floor(self._first))
        state = FeedState(self._feed, condition, since, (self._symbol,))
        await self._bus.publish(self._topics.feed(self._feed), encode_feed_state(state), retain=True)

    async def _publish_watermark(self) -> None:
        mark = Watermark(self._feed, self._now - GRACE, self._clock())
        await self._bus.publish(self._topics.watermark(self._feed), encode_watermark(mark))

    async def _keep_alive(self) -> None:
        """Publish the watermark each second, as the gateway does."""
        while True:
            await asyncio.sleep(_KEEP_ALIVE_SECONDS)
            await self._publish_watermark()
