"""An archive file played onto the bus in the gateway's place, through aggregator and writer into the store."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import attrgetter

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
# Minutes that the replay is at most ahead of what comes back. With two messages a minute that stays below the 1,000
# that a broker with default settings queues.
_AHEAD_OF_BUS = 400
_AHEAD_OF_STORE = 5_000
_BATCH = 720
_KEEP_ALIVE_SECONDS = 1.0
_STALLED_SECONDS = 120.0


class ReplayError(Exception):
    """The replay does not get on; the text says what it waits for."""


class Replay:
    """Plays 1m candles as ticks and watermarks of one feed, and answers seed and history requests from the same
    candles.

    It plays as fast as the store follows, or at `speed` minutes of the file per minute. `clock` (unix seconds) dates
    the messages; the market's time is the file's.
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
        # What Kraken's clock would show. It begins with the first row: a feed that leaps days ahead is not believed.
        self._now = float(self._first) + GRACE
        self._closed = self._first - _MINUTE  # newest closed minute that came back over the bus
        self._moved = asyncio.Event()
        self._seeded = asyncio.Event()

    async def run(self) -> None:
        """Play to the end of the file and until the store has all of it.

        ReplayError if nothing moves for two minutes.
        """
        async with self._bus, asyncio.TaskGroup() as tasks:
            await self._bus.subscribe(
                self._topics.seed_requests(),
                self._topics.history_requests(),
                self._topics.candles(self._symbol, Timeframe.M1),
            )
            tasks_of_ours = [
                tasks.create_task(self._answer(), name="replay.answer"),
                tasks.create_task(self._keep_alive(), name="replay.keep-alive"),
            ]
            await self._publish_feed(FeedCondition.LIVE)
            try:
                await self._wait(self._seeded.is_set, "an aggregator to ask for its seed")
                await self._play()
                await self._until_stored()
            finally:
                await self._publish_feed(FeedCondition.DOWN)
            for task in tasks_of_ours:
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
            await self._wait(lambda m=minute: self._closed >= m - _AHEAD_OF_BUS * _MINUTE, "candles to come back")  # type: ignore[misc]
            if minute - stored > _AHEAD_OF_STORE * _MINUTE:
                stored = await self._stored_up_to(minute - _AHEAD_OF_STORE // 2 * _MINUTE, Timeframe.M1)
            if minute % 36_000 == 0:
                self._progress(minute - self._first)
        self._progress(self._end - self._first)

    async def _until_stored(self) -> None:
        for timeframe in TIMEFRAMES:
            last = timeframe.floor(self._end) - timeframe.seconds
            if last >= timeframe.floor(self._first):
                await self._stored_up_to(last, timeframe)

    async def _stored_up_to(self, open_time: int, timeframe: Timeframe) -> int:
        """Wait until the store has the candle of `open_time`, or a later one; the open time of its newest."""
        deadline = self._clock() + _STALLED_SECONDS
        while True:
            newest = await self._store.newest_candles(self._symbol, timeframe, end=self._end, limit=1)
            if newest and newest[0].open_time >= open_time:
                return newest[0].open_time
            if self._clock() > deadline:
                raise ReplayError(f"the store has no candle of {timeframe.value} at {open_time} after two minutes")
            await asyncio.sleep(0.1)

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            self._moved.clear()
            try:
                async with asyncio.timeout(_STALLED_SECONDS):
                    await self._moved.wait()
            except TimeoutError:
                raise ReplayError(f"waited two minutes for {what}") from None

    # --- the gateway's part ------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
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
        """All that this week and the one before hold; the file says nothing of higher timeframes.

        The one before, because an aggregator that takes over just after its end still owes the 1w candle.
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
        """Repeat the watermark while nothing moves, as the gateway does each second."""
        while True:
            await asyncio.sleep(_KEEP_ALIVE_SECONDS)
            await self._publish_watermark()
