"""The aggregator's shell: messages in, the core's output to the bus. It decides nothing about candles."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from aggregator import __version__
from aggregator.compact import compact
from aggregator.core import Engine, Output
from aggregator.core.engine import UncoveredGap
from aggregator.core.feeds import ImplausibleError
from aggregator.endings import Endings, Following, Standing
from aggregator.forming import TURN_SECONDS, FormingCandles
from aggregator.late_ends import LateEnds, LateStep
from aggregator.metrics import AggregatorMetrics, PublicationKind, kind_of_response, kind_of_update
from aggregator.republishing import Republishing
from aggregator.subscriptions import BusSubscriptions
from ingress_common.bus import Bus, BusError, Connected, Event, Message
from ingress_common.dead_letters import DeadLetterPublisher
from ingress_common.health import Check, Health, broker_check
from ingress_common.heartbeat import StatusPublisher
from ingress_common.logs import get_logger
from ingress_common.membership import Members
from ingress_common.minute_trades import trades_of
from ingress_common.model import GRACE, Candle, FeedCondition, HistoryRequest, SeedRequest
from ingress_common.payloads import (
    PayloadError,
    decode_candle,
    decode_feed_state,
    decode_history,
    decode_republish_request,
    decode_status_on,
    decode_watermark,
    encode_candle,
    encode_history_request,
    encode_seed_request,
)
from ingress_common.sequence import REQUEST, Numbering, request_of
from ingress_common.service_names import AGGREGATOR, GATEWAY
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, Topics, symbol_of

log = get_logger(__name__)

_MAINTENANCE_SECONDS = 0.2
_LOOK_SECONDS = 5.0
_REASSIGN_SECONDS = 1.0
_UNCONFIRMED_LIMIT = 500
_GAPS_REPORTED = 200
_SHOWN = 5
_ENDINGS_SECONDS = 1.0
_SWEEP_SECONDS = 5.0
_MOST_RETAINED = 5_000
_SILENT_SECONDS = 10.0
_UNFILLED_SECONDS = 10.0
# A snapshot is final up to GRACE before it was taken. The coverage by updates may have begun with the watermark that
# caused the request, so a snapshot that is taken at once would leave the time between them unknown.
_SEED_AFTER_SECONDS = GRACE
# Requests to republish get at most a quarter of the time, in portions of milliseconds. The pause between rounds keeps a
# flood of requests from becoming a flood of candles.
_PORTION = 25
_PAUSE_RATIO = 3.0
_LONGEST_PAUSE_SECONDS = 1.0
_ROUND_PAUSE_SECONDS = 2.0
_START_SECONDS = 60.0  # symbols that are gained later are not those of the start
_SEED_SECONDS = 15.0  # how long such a symbol may wait for its seed
_OVER = (Standing.ENDED, Standing.LEFT)

_KindOf = Callable[[Candle], PublicationKind]


class Aggregator:
    """One instance: maintains its share of the symbols that the feeds carry.

    A message is acknowledged once the broker has confirmed everything published because of it; a request to republish
    at once, because its sender repeats it until it has the candles. `clock` (unix seconds) dates status and dead
    letters, and measures latencies; candles depend on the messages alone.
    """

    name = AGGREGATOR

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        subscriptions: BusSubscriptions,
        instance: str,
        registry: CollectorRegistry,
        clock: Callable[[], float],
        give_up_after: float | None = 86400.0,
        unsafe_secrets: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._subscriptions = subscriptions
        self._clock = clock
        self._started_at = clock()
        self._engine = Engine(give_up_after=give_up_after)
        self._forming = FormingCandles(self._engine)
        self._members = Members(topics, self.name, instance)
        self._metrics = AggregatorMetrics(registry)
        self._dead_letters = DeadLetterPublisher(bus, topics, self.name)
        self._status = StatusPublisher(
            bus,
            topics,
            self.name,
            instance,
            __version__,
            self._started_at,
            details=self._details,
            refresh_seconds=1,
            unsafe_secrets=unsafe_secrets,
        )
        # One at a time: handling a message, gaining or releasing symbols, publishing forming candles, republishing a
        # portion. So the output stays in order. Never hold it while waiting for the broker: the same connection brings
        # the messages.
        self._turn = asyncio.Lock()
        self._seed_requests: asyncio.Queue[tuple[float, SeedRequest]] = asyncio.Queue()  # with the loop's time when due
        self._unconfirmed: asyncio.Queue[tuple[Message, list[Awaitable[None]]]] = asyncio.Queue(_UNCONFIRMED_LIMIT)
        self._republishing = Republishing(self._published)
        self._reassign_at: float | None = None
        self._members_moved = False
        self._numbering = Numbering()
        self._resuming: set[str] = set()
        self._following = Following()
        self._endings = Endings()
        self._late = LateEnds()
        self._retained: set[str] = set()
        self._watermarks: dict[str, float] = {}  # when the last one of each live feed arrived, in the loop's time
        self._sweep = asyncio.Event()
        self._sweep.set()
        self._gapped: dict[str, int] = {}
        self._open_gaps = 0.0  # seconds of them that are still requested
        self._gaps_changed_at = 0.0  # when that last changed, in the loop's time
        self._missing: list[dict[str, Any]] = []
        self._owned_since: dict[str, float] = {}
        self._newest: dict[tuple[str, Timeframe], int] = {}

    async def run(self) -> None:
        """Run until cancelled. BusError if the broker refuses at the start."""
        async with self._bus, asyncio.TaskGroup() as tasks:
            status, endings = self._topics.status(GATEWAY, "+"), self._topics.ending("+", "+")
            await self._bus.subscribe(self._members.filter, status, endings)
            await self._subscriptions.open(self._bus)
            self._schedule_reassignment()
            tasks.create_task(self._status.run(), name="aggregator.status")
            tasks.create_task(self._confirm(), name="aggregator.confirm")
            tasks.create_task(self._request_seeds(), name="aggregator.seeds")
            tasks.create_task(self._publish_forming(), name="aggregator.forming")
            tasks.create_task(self._republish(), name="aggregator.republish")
            tasks.create_task(self._maintain(), name="aggregator.maintenance")
            tasks.create_task(self._end_symbols(), name="aggregator.endings")
            tasks.create_task(self._keep_swept(), name="aggregator.sweep")
            tasks.create_task(self._consume(), name="aggregator.consume")

    def health(self) -> Health:
        """Ready when the broker takes and delivers everything, every symbol is seeded or was gained just now, and gaps
        are being filled.
        """
        unseeded = [symbol for symbol, series in self._engine.series.items() if not series.seeded]
        symbols = len(self._engine.series)
        seeds_ok = all(map(self._is_new, unseeded))
        broker, losing = broker_check(self._bus, self._status), sorted(self._engine.losing)
        lost = f"{len(losing)} symbols whose updates do not all arrive from the gateway: {', '.join(losing[:_SHOWN])}"
        now = asyncio.get_running_loop().time()
        silent = sorted(feed for feed, at in self._watermarks.items() if at < now - _SILENT_SECONDS)
        late = f"live feeds whose watermarks do not arrive: {', '.join(silent[:_SHOWN])}"
        unfilled = now - self._gaps_changed_at if self._open_gaps else 0.0
        gaps_ok = unfilled <= _UNFILLED_SECONDS
        gaps = f"{len(self._gapped)} symbols have gaps"
        return Health(
            live=True,
            ready=broker.ok and not losing and not silent and seeds_ok and gaps_ok,
            checks=(
                broker,
                Check("watermarks", not silent, late if silent else "the watermarks of all live feeds arrive"),
                Check("updates", not losing, lost if losing else "all published updates have arrived"),
                Check("seeds", seeds_ok, f"{symbols - len(unseeded)} of {symbols} symbols have their seed"),
                Check("gaps", gaps_ok, gaps if gaps_ok else f"{gaps}, and none of it was filled for {unfilled:.0f} s"),
            ),
        )

    def _is_new(self, symbol: str) -> bool:
        """Whether `symbol` was gained just now, by an instance that had started long before."""
        since = self._owned_since.get(symbol, self._started_at)
        return since > self._started_at + _START_SECONDS and self._clock() - since <= _SEED_SECONDS

    # --- messages ----------------------------------------------------------------------------------------------------

    async def _consume(self) -> None:
        async for event in self._bus.events():
            async with self._turn:
                await self._handle(event)

    async def _handle(self, event: Event) -> None:
        if isinstance(event, Connected):
            self._members.reconnected()
            self._status.announce()
            self._engine.reconnected()
            self._watermarks.clear()
            await self._publish_all(self._engine.recent(), lambda _: PublicationKind.REPEATED)
            return
        try:
            outputs, kind_of = self._decide(event)
        except (PayloadError, TopicError, ImplausibleError) as error:
            self._metrics.dead_letters.inc()
            log.debug("message.rejected", topic=event.topic, reason=str(error))
            delivery = await self._dead_letters.publish(event.topic, event.payload, str(error), self._clock())
            # Without the payload, which may be megabytes.
            await self._unconfirmed.put((replace(event, payload=b""), [delivery]))
            return
        await self._unconfirmed.put((event, await self._publish_all(outputs, kind_of)))

    def _decide(self, message: Message) -> tuple[Sequence[Output], _KindOf]:
        levels = self._topics.split(message.topic)
        match levels:
            case ("raw" | "history", *_) | ("feed", _, _, "watermark") | ("request", _, "republish") if message.retain:
                raise PayloadError("expected a message that is not retained")
            case ("raw", _, _, "1m"):
                self._metrics.ticks.inc()
                tick = decode_candle(message.payload)
                self._expect(message, self._topics.raw(tick.symbol))
                return self._engine.tick(tick), kind_of_update
            case ("history", _, _, _):
                self._metrics.batches.inc()
                history = compact(decode_history(message.payload))
                self._expect(message, self._topics.history(history.symbol, history.timeframe))
                self._late.history(history, self._time)
                series = self._engine.series.get(history.symbol)
                kind_of = partial(kind_of_response, at=history.at, looked_after_from=series.horizons if series else {})
                return self._engine.history(history), kind_of
            case ("feed", _, _, "watermark"):
                self._metrics.watermarks.inc()
                mark = decode_watermark(message.payload)
                self._expect(message, self._topics.watermark(mark.feed))
                if not self._engine.knows(mark.feed):
                    self._metrics.strays.inc()
                elif not self._engine.reports(mark.feed):
                    # Its symbols now take precedence over those of feeds without watermarks.
                    self._schedule_reassignment()
                before = self._engine.lost_updates
                outputs = self._engine.watermark(mark, trades_of(message.properties))
                if self._engine.reports(mark.feed):
                    self._watermarks[mark.feed] = asyncio.get_running_loop().time()
                if lost := self._engine.lost_updates - before:
                    self._metrics.lost_updates.inc(lost)
                    log.warning("updates.lost", feed=mark.feed, symbols=lost)
                return outputs, kind_of_update
            case ("feed", _, feed) if not message.payload:
                self._engine.forget(feed)
                self._following.forget(feed)
                self._watermarks.pop(feed, None)
                self._schedule_reassignment()
            case ("feed", _, _):
                state = decode_feed_state(message.payload)
                self._expect(message, self._topics.feed(state.feed))
                self._following.feed(state)
                if state.state is FeedCondition.DOWN:
                    self._watermarks.pop(state.feed, None)
                if self._engine.feed_state(state, retained=message.retain):
                    self._schedule_reassignment()
            case ("status", service, _) if message.payload and service == GATEWAY:
                self._following.status(decode_status_on(message.topic, message.payload))
            case ("status", _, _) if message.payload:
                status = decode_status_on(message.topic, message.payload)
                if not message.retain:
                    self._status.received(status)
                if self._members.update(status):
                    self._members_changed()
            case ("candles", _, _, _) if message.retain and message.payload:
                candle = decode_candle(message.payload)
                self._expect(message, self._topics.candles(candle.symbol, candle.timeframe))
                if not candle.closed and len(self._retained) < _MOST_RETAINED:
                    self._retained.add(candle.symbol)
                self._engine.resume(candle)
                self._late.resume(candle)
            case ("request", _, "republish"):
                self._queue_republishing(message)
            case ("ending", _, symbol, timeframe) if not message.payload:
                self._endings.remove(symbol_of(symbol), Timeframe.parse(timeframe))
            case ("ending", _, _, _):
                candle = decode_candle(message.payload)
                self._expect(message, self._topics.ending(candle.symbol, candle.timeframe))
                self._endings.add(candle)
        return [], kind_of_update

    def _expect(self, message: Message, topic: str) -> None:
        if message.topic != topic:
            raise PayloadError(f"expected the payload of {message.topic}, got that of {topic}")

    async def _publish_all(
        self, outputs: Collection[Output], kind_of: _KindOf = kind_of_update
    ) -> list[Awaitable[None]]:
        # Find the newest first: the retained candle must not step through hours at a start.
        for output in outputs:
            if isinstance(output, Candle):
                self._note_newest(output)
        return [await self._publish(output, kind_of) for output in outputs]

    def _queue_republishing(self, message: Message) -> None:
        """Queue the requested candles of our symbols."""
        request, name = decode_republish_request(message.payload), request_of(message.properties)
        ours = [symbol for symbol in request.symbols if symbol in self._engine.series]
        self._metrics.displaced_requests.inc(self._republishing.request(ours, request.start, request.end, name))
        self._metrics.republishing.set(len(self._republishing))

    def _published(self, symbol: str, start: float, end: float) -> Sequence[Candle]:
        candles = self._engine.republish((symbol,), start, end)
        for candle in candles:
            self._note_newest(candle)
        return candles

    async def _republish(self) -> None:
        """Republish in portions, with the other messages in between; the last candle of a response names its request.

        The next portion waits for the broker to confirm this one, so that requests never fill the connection's queue.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._republishing.requested()
            async with self._turn:
                began = loop.time()
                deliveries = [
                    await self._publish(candle, lambda _: PublicationKind.REPEATED, {REQUEST: name} if name else {})
                    for candle, name in self._republishing.portion(_PORTION)
                ]
                took = loop.time() - began
                self._metrics.republishing.set(len(self._republishing))
            await self._confirmed(deliveries, self._topics.republish_requests())
            pause = min(took * _PAUSE_RATIO, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause if self._republishing.in_round else _ROUND_PAUSE_SECONDS)

    async def _publish(
        self, output: Output, kind_of: _KindOf, more: Mapping[str, str] = MappingProxyType({})
    ) -> Awaitable[None]:
        """Publish; `more` are properties of a closed candle beside its number."""
        match output:
            case Candle():
                topic = self._topics.candles(output.symbol, output.timeframe)
                # Retain the newest candle, not the last repair.
                newest = output.open_time == self._newest[output.symbol, output.timeframe]
                properties = {**self._numbering.next(output.symbol), **more} if output.closed else None
                qos = int(output.closed)
                delivery = await self._bus.publish(
                    topic, encode_candle(output), qos=qos, retain=newest, properties=properties
                )
                self._metrics.published(output, kind_of(output), self._clock())
                return delivery
            case SeedRequest():
                loop = asyncio.get_running_loop()
                self._seed_requests.put_nowait((loop.time() + _SEED_AFTER_SECONDS, output))
                # It is repeated until the seed arrives, so no message waits for it.
                requested = loop.create_future()
                requested.set_result(None)
                return requested
            case HistoryRequest():
                return await self._bus.publish(self._topics.history_requests(), encode_history_request(output))

    def _note_newest(self, candle: Candle) -> None:
        series = candle.symbol, candle.timeframe
        self._newest[series] = max(candle.open_time, self._newest.get(series, candle.open_time))

    async def _request_seeds(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, request = await self._seed_requests.get()
            await asyncio.sleep(due - loop.time())
            log.info("seed.requested", symbols=len(request.symbols))
            await self._bus.publish(self._topics.seed_requests(), encode_seed_request(request))

    async def _confirm(self) -> None:
        """Acknowledge each message, in order, once the broker has confirmed what was published because of it."""
        while True:
            message, deliveries = await self._unconfirmed.get()
            await self._confirmed(deliveries, message.topic)
            message.ack()

    async def _confirmed(self, deliveries: Collection[Awaitable[None]], cause: str) -> None:
        """Wait until the broker has confirmed what was published because of a message on topic `cause`."""
        try:
            for delivery in deliveries:
                await delivery
        except BusError as error:
            # The broker would refuse it the next time too, and hold up all that follows. The health shows it
            # (`broker_check`), and the writer and the store's audit find what is missing.
            self._metrics.refused.inc()
            log.debug("publish.refused", topic=cause, reason=str(error))

    # --- symbols and forming candles ---------------------------------------------------------------------------------

    def _members_changed(self) -> None:
        self._sweep.set()
        self._members_moved = True
        self._schedule_reassignment()

    def _schedule_reassignment(self) -> None:
        if self._reassign_at is None:
            self._reassign_at = asyncio.get_running_loop().time() + _REASSIGN_SECONDS

    async def _maintain(self) -> None:
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        while True:
            await asyncio.sleep(_MAINTENANCE_SECONDS)
            if self._bus.connected and self._members.expire():
                self._members_changed()
            if self._reassign_at is not None and loop.time() >= self._reassign_at:
                self._reassign_at = None
                await self._reassign()
            await self._end_resuming()
            if loop.time() >= looked_at + _LOOK_SECONDS:
                looked_at = loop.time()
                self._look_for_gaps()

    async def _end_symbols(self) -> None:
        """Release symbols that have ended, and close their last windows when those are over."""
        while True:
            await asyncio.sleep(_ENDINGS_SECONDS)
            now = self._time
            standings = self._standings()
            for symbol in self._late.symbols - {s for s, standing in standings.items() if standing in _OVER}:
                # It is carried again, or another aggregator's. The subscriptions are those of its series.
                self._late.forget(symbol)
            for symbol, standing in standings.items():
                if standing in _OVER:
                    await self._end(symbol, standing, now)
                if standing is Standing.CARRIED:
                    await self._clear_endings(symbol)
                await self._close_last_windows(symbol, now)

    @property
    def _time(self) -> float:
        """Kraken's time (unix seconds), by watermarks and gateways; minus infinity without any."""
        return max(self._engine.newest, self._following.kraken_time)

    def _standings(self) -> dict[str, Standing]:
        """How our symbols stand that have last windows, or that may have ended and have a series or retained forming
        candles.
        """
        carried, steady = self._engine.carried, asyncio.get_running_loop().time()
        known = {*self._engine.series, *self._retained}
        symbols = (known - carried) | (known & self._following.ending) | self._endings.symbols
        return {s: self._following.standing(s, carried, steady) for s in symbols if self._members.owns(s)}

    async def _end(self, symbol: str, standing: Standing, now: float) -> None:
        if symbol in self._engine.series:
            await self._take_leave(symbol, standing, now)
        elif symbol in self._retained:
            await self._end_late(symbol, now)

    async def _end_late(self, symbol: str, now: float) -> None:
        """The symbol ended while no aggregator ran: request what is stored of it, then end it by that."""
        match self._late.next(symbol, asyncio.get_running_loop().time()):
            case LateStep.SUBSCRIBE:
                await self._subscriptions.gain(self._bus, {symbol})
                await self._bus.subscribe(self._topics.candles(symbol, "+"), no_local=True)
            case LateStep.REQUEST:
                await self._publish(SeedRequest((symbol,)), kind_of_update)
            case LateStep.END:
                async with self._turn:
                    last = self._late.end(symbol, now)
                    await self._publish_last(symbol, last)
                await self._subscriptions.release(self._bus, {symbol})
                await self._bus.unsubscribe(self._topics.candles(symbol, "+"))
                log.info("symbol.ended-late", symbol=symbol, windows=len(self._endings.of(symbol)))

    async def _close_last_windows(self, symbol: str, now: float) -> None:
        async with self._turn:
            over = self._endings.due(symbol, now)
            await self._publish_all(over)
            for candle in over:
                await self._clear_ending(symbol, candle.timeframe)

    async def _keep_swept(self) -> None:
        """Find retained forming candles, at the start and when members change: nobody may maintain them any more."""
        topic = self._topics.candles("+", Timeframe.W1)
        while True:
            await self._sweep.wait()
            self._sweep.clear()
            await self._bus.subscribe(topic, no_local=True)
            await asyncio.sleep(_SWEEP_SECONDS)
            await self._bus.unsubscribe(topic)

    async def _take_leave(self, symbol: str, standing: Standing, now: float) -> None:
        async with self._turn:
            ended = standing is Standing.ENDED
            await self._publish_last(symbol, self._engine.end(symbol, now) if ended else self._engine.leave(symbol))
            self._owned_since.pop(symbol, None)
        await self._subscriptions.release(self._bus, {symbol})
        await self._stop_resuming({symbol} & self._resuming)
        log.info("symbol.ended", symbol=symbol, standing=standing.name.lower(), windows=len(self._endings.of(symbol)))
        self._status.announce()

    async def _publish_last(self, symbol: str, last: Sequence[Candle]) -> None:
        """Publish the last closed candles, hand the open windows to `_endings`, and clear the retained candles."""
        await self._publish_all([candle for candle in last if candle.closed])
        for candle in last:
            if not candle.closed:
                self._endings.add(candle)
                await self._bus.publish(
                    self._topics.ending(symbol, candle.timeframe), encode_candle(candle), retain=True
                )
        await self._clear_candles(symbol)

    async def _clear_candles(self, symbol: str) -> None:
        """Clear the retained candles of `symbol`."""
        self._retained.discard(symbol)
        for timeframe in TIMEFRAMES:
            await self._bus.publish(self._topics.candles(symbol, timeframe), b"", retain=True)

    async def _clear_endings(self, symbol: str) -> None:
        for timeframe in self._endings.of(symbol):
            await self._clear_ending(symbol, timeframe)

    async def _clear_ending(self, symbol: str, timeframe: Timeframe) -> None:
        self._endings.remove(symbol, timeframe)
        await self._bus.publish(self._topics.ending(symbol, timeframe), b"", retain=True)

    async def _publish_forming(self) -> None:
        while True:
            await asyncio.sleep(TURN_SECONDS)
            async with self._turn:
                await self._publish_all(self._forming.turn())

    async def _reassign(self) -> None:
        """Gain the symbols that are ours now, and release the others.

        Messages are handled meanwhile: a broker that responds only after its messages are received, as the embedded one
        does, would otherwise never respond.
        """
        async with self._turn:
            carried = self._engine.carried
            mine = {symbol for symbol in carried if self._members.owns(symbol)}
            gained = mine - self._engine.series.keys()
            # Drop one that was never seeded and that no feed carries any more.
            lost = {
                symbol
                for symbol, series in self._engine.series.items()
                if not self._members.owns(symbol) or not (series.seeded or symbol in carried)
            }
            if self._members_moved:
                # Another aggregator may have published older forming candles while it held a symbol of ours.
                self._members_moved = False
                self._engine.refresh_forming()
            self._engine.release(lost)
            self._forget(lost)
        if lost:
            await self._subscriptions.release(self._bus, lost)
            await self._stop_resuming(lost & self._resuming)
        if gained:
            # First the updates, then the series; the seed follows with the next watermark. The retained candles are
            # what an earlier run published last.
            await self._subscriptions.gain(self._bus, gained)
            async with self._turn:
                self._engine.gain(gained)
                self._owned_since |= dict.fromkeys(gained, self._clock())
                self._resuming |= gained
            await self._bus.subscribe(*(self._topics.candles(symbol, "+") for symbol in gained), no_local=True)
        if lost or gained:
            log.info(
                "symbols.assigned",
                gained=len(gained),
                released=len(lost),
                mine=len(mine),
                members=len(self._members.online),
            )
            self._status.announce()

    def _forget(self, symbols: Collection[str]) -> None:
        self._numbering.forget(symbols)
        for symbol in symbols:
            self._owned_since.pop(symbol, None)
            for timeframe in TIMEFRAMES:
                self._newest.pop((symbol, timeframe), None)

    async def _end_resuming(self) -> None:
        await self._stop_resuming({s for s in self._resuming if (b := self._engine.series.get(s)) and b.initialized})

    async def _stop_resuming(self, symbols: set[str]) -> None:
        if symbols:
            self._resuming -= symbols
            await self._bus.unsubscribe(*(self._topics.candles(symbol, "+") for symbol in symbols))

    def _look_for_gaps(self) -> None:
        found = self._engine.gaps()
        gaps = {symbol: round(sum(gap.range.end - gap.range.start for gap in spans)) for symbol, spans in found.items()}
        for symbol in gaps.keys() - self._gapped.keys():
            log.warning("gap.found", symbol=symbol, seconds=gaps[symbol])
        for symbol in self._gapped.keys() - gaps.keys():
            log.info("gap.filled", symbol=symbol)
        open_gaps = sum(gap.range.end - gap.range.start for spans in found.values() for gap in spans if not gap.lost)
        if open_gaps != self._open_gaps:
            self._open_gaps, self._gaps_changed_at = open_gaps, asyncio.get_running_loop().time()
        self._gapped = gaps
        self._missing = [_gap_details(gap) for spans in found.values() for gap in spans][:_GAPS_REPORTED]
        self._metrics.gaps.set(len(gaps))
        self._metrics.gap_seconds.set(sum(gaps.values()))
        self._metrics.forgotten_rows.set(sum(series.forgotten_rows for series in self._engine.series.values()))
        self._metrics.pending_windows.set(sum(series.pending for series in self._engine.series.values()))
        self._metrics.symbols.set(len(self._engine.series))

    def _details(self) -> Mapping[str, Any]:
        all_series = self._engine.series
        health = self.health()
        return {
            "ready": health.ready,
            "problems": health.problems,
            "symbols": sorted(all_series),
            "owned_since": {symbol: rfc3339(since) for symbol, since in sorted(self._owned_since.items())},
            "initialized": sum(series.initialized for series in all_series.values()),
            "gaps": self._gapped,
            "missing": self._missing,
        }


def _gap_details(gap: UncoveredGap) -> dict[str, Any]:
    return {
        "symbol": gap.symbol,
        "timeframe": gap.timeframe.value,
        "from": rfc3339(gap.range.start),
        "to": rfc3339(gap.range.end),
        "lost": gap.lost,
    }
