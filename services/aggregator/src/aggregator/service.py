"""The aggregator's shell: messages in, the core's decisions out. It decides nothing about candles."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from aggregator import __version__
from aggregator.core import Engine, Output
from aggregator.core.engine import Gap, ImplausibleError
from aggregator.inputs import Inputs
from aggregator.metrics import AggregatorMetrics, Kind, kind_in_answer, kind_of_news
from ingress_common.bus import Bus, BusError, Connected, Event, Message
from ingress_common.health import Check, Health
from ingress_common.logs import get_logger
from ingress_common.membership import Members
from ingress_common.model import Candle, HistoryRequest, SeedRequest
from ingress_common.payloads import (
    PayloadError,
    dead_letter,
    decode_candle,
    decode_feed_state,
    decode_history,
    decode_status_on,
    decode_watermark,
    encode_candle,
    encode_dead_letter,
    encode_history_request,
    encode_seed_request,
)
from ingress_common.presence import StatusPublisher
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, Topics

log = get_logger(__name__)

_FLUSH_SECONDS = 0.2
_LOOK_SECONDS = 5.0
_MEMBERS_SETTLE_SECONDS = 1.0
_UNCONFIRMED_LIMIT = 500
_GAPS_TOLD = 200
_WRITERS_BACK_SECONDS = 15.0

_KindOf = Callable[[Candle], Kind]


class Aggregator:
    """One instance: looks after the symbols that are its share of those the feeds carry.

    A message is acknowledged once the broker has confirmed everything that it led to. `clock` (unix seconds) dates
    status and dead letters, and measures latencies; candles follow the messages.
    """

    name = "aggregator"

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        inputs: Inputs,
        instance: str,
        registry: CollectorRegistry,
        clock: Callable[[], float],
        give_up_after: float | None = 86400.0,
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._inputs = inputs
        self._clock = clock
        self._engine = Engine(give_up_after=give_up_after)
        self._members = Members(topics, self.name, instance)
        self._metrics = AggregatorMetrics(registry)
        self._status = StatusPublisher(
            bus, topics, self.name, instance, __version__, clock(), details=self._details, refresh_seconds=1
        )
        # Messages are handled, symbols reassigned and forming candles flushed one after the other: outputs stay in
        # order.
        self._turn = asyncio.Lock()
        self._unconfirmed: asyncio.Queue[tuple[Message, list[Awaitable[None]]]] = asyncio.Queue(_UNCONFIRMED_LIMIT)
        self._reassign_at: float | None = None
        self._recent_again_at: float | None = None
        self._resuming: set[str] = set()
        self._gapped: dict[str, int] = {}
        self._missing: list[dict[str, Any]] = []
        self._owned_since: dict[str, float] = {}
        self._newest: dict[tuple[str, Timeframe], int] = {}

    async def run(self) -> None:
        """Work until cancelled. BusError if the broker refuses at the start."""
        async with self._bus, asyncio.TaskGroup() as tasks:
            await self._bus.subscribe(self._members.filter)
            await self._inputs.open(self._bus)
            self._reassign_soon()
            tasks.create_task(self._status.run(), name="aggregator.status")
            tasks.create_task(self._confirm(), name="aggregator.confirm")
            tasks.create_task(self._keep_house(), name="aggregator.house")
            tasks.create_task(self._consume(), name="aggregator.consume")

    def health(self) -> Health:
        """Ready when the broker is there and every symbol of ours has its seed."""
        books = self._engine.books.values()
        seeded = sum(book.seeded for book in books)
        return Health(
            live=True,
            ready=self._bus.connected and seeded == len(books),
            checks=(
                Check("broker", self._bus.connected, "connected" if self._bus.connected else "not connected"),
                Check("seeds", seeded == len(books), f"{seeded} of {len(books)} symbols have their seed"),
                Check("gaps", not self._gapped, f"{len(self._gapped)} symbols have gaps"),
            ),
        )

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
            await self._publish_recent()
            self._recent_again_at = asyncio.get_running_loop().time() + _WRITERS_BACK_SECONDS
            return
        try:
            outputs, kind_of = self._decide(event)
        except (PayloadError, TopicError, ImplausibleError) as error:
            self._metrics.dead_letters.inc()
            log.debug("message.rejected", topic=event.topic, reason=str(error))
            letter = encode_dead_letter(dead_letter(event.topic, event.payload, str(error), self._clock()))
            delivery = await self._bus.publish(self._topics.dead_letter(self.name), letter)
            # Without the payload, which may be megabytes of nonsense.
            await self._unconfirmed.put((replace(event, payload=b""), [delivery]))
            return
        await self._unconfirmed.put((event, await self._publish_all(outputs, kind_of)))

    def _decide(self, message: Message) -> tuple[list[Output], _KindOf]:
        levels = self._topics.split(message.topic)
        match levels:
            case ("raw" | "history", *_) | ("feed", _, _, "watermark") if message.retain:
                raise PayloadError("expected a message that is not retained")
            case ("raw", _, _, "1m"):
                self._metrics.ticks.inc()
                tick = decode_candle(message.payload)
                self._expect(message, self._topics.raw(tick.symbol))
                return self._engine.tick(tick), kind_of_news
            case ("history", _, _, _):
                self._metrics.batches.inc()
                history = decode_history(message.payload)
                self._expect(message, self._topics.history(history.symbol, history.timeframe))
                book = self._engine.books.get(history.symbol)
                kind_of = partial(kind_in_answer, at=history.at, looked_after_from=book.horizons if book else {})
                return self._engine.history(history), kind_of
            case ("feed", _, _, "watermark"):
                self._metrics.watermarks.inc()
                mark = decode_watermark(message.payload)
                self._expect(message, self._topics.watermark(mark.feed))
                if not self._engine.knows(mark.feed):
                    self._metrics.strays.inc()
                elif not self._engine.speaks(mark.feed):
                    # Its symbols now go before those of feeds that are only said to be there.
                    self._reassign_soon()
                return self._engine.watermark(mark), kind_of_news
            case ("feed", _, feed) if not message.payload:
                self._engine.forget(feed)
                self._reassign_soon()
            case ("feed", _, _):
                state = decode_feed_state(message.payload)
                self._expect(message, self._topics.feed(state.feed))
                self._engine.feed_state(state, retained=message.retain)
                self._reassign_soon()
            case ("status", _, _) if message.payload:
                status = decode_status_on(message.topic, message.payload)
                if not message.retain:
                    self._status.heard(status)
                if self._members.update(status):
                    self._reassign_soon()
            case ("candles", _, _, _) if message.retain and message.payload:
                candle = decode_candle(message.payload)
                self._expect(message, self._topics.candles(candle.symbol, candle.timeframe))
                self._engine.resume(candle)
        return [], kind_of_news

    def _expect(self, message: Message, topic: str) -> None:
        if message.topic != topic:
            raise PayloadError(f"expected the payload of {message.topic}, got that of {topic}")

    async def _publish_all(self, outputs: Collection[Output], kind_of: _KindOf = kind_of_news) -> list[Awaitable[None]]:
        # First which is the newest of all: what is retained must not step through hours at a start.
        for output in outputs:
            if isinstance(output, Candle):
                self._note_newest(output)
        return [await self._publish(output, kind_of) for output in outputs]

    async def _publish(self, output: Output, kind_of: _KindOf) -> Awaitable[None]:
        match output:
            case Candle():
                topic = self._topics.candles(output.symbol, output.timeframe)
                # What is retained must be the newest, not the last repair.
                newest = output.open_time == self._newest[output.symbol, output.timeframe]
                qos = int(output.closed)
                delivery = await self._bus.publish(topic, encode_candle(output), qos=qos, retain=newest)
                self._metrics.published(output, kind_of(output), self._clock())
                return delivery
            case SeedRequest():
                log.info("seed.requested", symbols=len(output.symbols))
                return await self._bus.publish(self._topics.seed_requests(), encode_seed_request(output))
            case HistoryRequest():
                return await self._bus.publish(self._topics.history_requests(), encode_history_request(output))

    async def _publish_recent(self) -> None:
        """What was published last, again: at a reconnect, and once the writers must be back as well.

        A broker that has restarted may have forgotten their shared subscriptions, as Mosquitto does, until they come.
        """
        await self._publish_all(self._engine.recent(), lambda _: Kind.REPEATED)

    def _note_newest(self, candle: Candle) -> None:
        series = candle.symbol, candle.timeframe
        self._newest[series] = max(candle.open_time, self._newest.get(series, candle.open_time))

    async def _confirm(self) -> None:
        """Acknowledge each message, in order, once the broker has what it led to."""
        while True:
            message, deliveries = await self._unconfirmed.get()
            try:
                for delivery in deliveries:
                    await delivery
            except BusError as error:
                # The broker would refuse it the next time too, and hold up all that follows; the store's audit finds
                # the hole.
                self._metrics.refused.inc()
                log.error("publish.refused", topic=message.topic, reason=str(error))
            message.ack()

    # --- symbols and forming candles ---------------------------------------------------------------------------------

    def _reassign_soon(self) -> None:
        if self._reassign_at is None:
            self._reassign_at = asyncio.get_running_loop().time() + _MEMBERS_SETTLE_SECONDS

    async def _keep_house(self) -> None:
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            async with self._turn:
                if self._bus.connected and self._members.expire():
                    self._reassign_soon()
                if self._recent_again_at is not None and loop.time() >= self._recent_again_at:
                    self._recent_again_at = None
                    await self._publish_recent()
                if self._reassign_at is not None and loop.time() >= self._reassign_at:
                    self._reassign_at = None
                    await self._reassign()
                await self._publish_all(self._engine.forming())
                await self._end_resuming()
            if loop.time() >= looked_at + _LOOK_SECONDS:
                looked_at = loop.time()
                self._look_for_gaps()

    async def _reassign(self) -> None:
        """Take the symbols that are ours now, and leave those that are not."""
        carried = self._engine.carried
        mine = {symbol for symbol in carried if self._members.owns(symbol)}
        gained = mine - self._engine.books.keys()
        # One that was never seeded and that no feed carries any more was never there.
        lost = {
            symbol
            for symbol, book in self._engine.books.items()
            if not self._members.owns(symbol) or not (book.seeded or symbol in carried)
        }
        # Someone who comes back after a pause may have published what he had left: ours goes on top of it.
        self._engine.renew_forming()
        if lost:
            self._engine.release(lost)
            self._forget(lost)
            await self._inputs.release(self._bus, lost)
            await self._stop_resuming(lost & self._resuming)
        if gained:
            # First the ticks, then the books; the seed follows with the next watermark. What an earlier run published
            # is retained.
            await self._inputs.gain(self._bus, gained)
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
        for symbol in symbols:
            self._owned_since.pop(symbol, None)
            for timeframe in TIMEFRAMES:
                self._newest.pop((symbol, timeframe), None)

    async def _end_resuming(self) -> None:
        await self._stop_resuming({s for s in self._resuming if (b := self._engine.books.get(s)) and b.initialized})

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
        self._gapped = gaps
        self._missing = [_gap_details(gap) for spans in found.values() for gap in spans][:_GAPS_TOLD]
        self._metrics.gaps.set(len(gaps))
        self._metrics.gap_seconds.set(sum(gaps.values()))
        self._metrics.stale.set(sum(book.stale for book in self._engine.books.values()))
        self._metrics.held.set(sum(book.held for book in self._engine.books.values()))
        self._metrics.symbols.set(len(self._engine.books))

    def _details(self) -> Mapping[str, Any]:
        books = self._engine.books
        return {
            "symbols": sorted(books),
            "owned_since": {symbol: rfc3339(since) for symbol, since in sorted(self._owned_since.items())},
            "initialized": sum(book.initialized for book in books.values()),
            "gaps": self._gapped,
            "missing": self._missing,
        }


def _gap_details(gap: Gap) -> dict[str, Any]:
    return {
        "symbol": gap.symbol,
        "timeframe": gap.timeframe.value,
        "from": rfc3339(gap.range.start),
        "to": rfc3339(gap.range.end),
        "lost": gap.lost,
    }
