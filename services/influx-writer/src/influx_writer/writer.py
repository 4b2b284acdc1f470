"""The service: receive from the bus, write to the store, acknowledge."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from influx_writer.arrivals import Arrivals
from influx_writer.assignment import Assignment
from influx_writer.batch import Batch
from influx_writer.forming import FormingBuffer
from influx_writer.gateway_time import GatewayTime
from influx_writer.intake import AheadError, Intake, PendingRow, Reason, RowKind, UnusableError
from influx_writer.metrics import WriterMetrics
from influx_writer.queue_marks import QueueMarks
from influx_writer.republishing import Republishing
from influx_writer.shares import LEAVING, SYMBOLS, Shares
from ingress_common.backoff import FULL_JITTER, Backoff
from ingress_common.bus import Bus, BusClosedError, BusError, Connected, LastWill, Message
from ingress_common.dead_letters import DeadLetterPublisher, was_delivered
from ingress_common.errors import StartError
from ingress_common.health import Check, Health, broker_check
from ingress_common.heartbeat import StatusPublisher, will_of
from ingress_common.logs import get_logger
from ingress_common.minute_trades import trades_of
from ingress_common.model import Candle
from ingress_common.payloads import (
    PayloadError,
    decode_feed_state,
    decode_status_on,
    decode_watermark,
    encode_candle,
)
from ingress_common.prefix import PrefixGuard
from ingress_common.service_names import WRITER
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, Topics
from ingress_store import CandleStore, Rejection, StoreOpenError, StoreUnavailableError

SESSION_SECONDS = 7 * 86400
"""How long the broker keeps what an absent writer has not acknowledged."""

_PING_SECONDS = 5.0
_REFRESH_SECONDS = 5.0
_PRUNE_SECONDS = 3600.0
_IDLE_SECONDS = 0.5
_TAKEN_AT_ONCE = 200
_NOT_YET = "not checked yet"
_WRITE_BACKOFF = Backoff(0.2, 10.0, FULL_JITTER)
_REQUEST_BACKOFF = Backoff(5.0, 60.0, jitter=(0.7, 1.0))

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """A batch is written when it has `rows` rows, or is `seconds` old. `drain_seconds`: for the last one, on a stop;
    `leave_seconds`: for handing the symbols over before that. `reassign_seconds`: between a change of the online
    writers and the reassignment of symbols. `patience_seconds`: how long the store may not respond before the writer is
    not ready; it may take longer to give up on a request.

    One batch is written while the next one is taken, so the bus must accept `2 * rows` unacknowledged messages.
    """

    rows: int = 2_000
    seconds: float = 0.5
    drain_seconds: float = 3.0
    leave_seconds: float = 5.0
    reassign_seconds: float = 1.0
    patience_seconds: float = 6.0

    @property
    def inbound(self) -> int:
        """How many unacknowledged messages the bus must accept."""
        return 2 * self.rows


def client_id(topics: Topics, instance: str) -> str:
    """The MQTT client of an instance: stable, because the broker keeps its session under this name."""
    return f"{topics.prefix}-{WRITER}-{instance}"


def control_client_id(topics: Topics, instance: str) -> str:
    """The client of the connection for status, requests and dead letters, which has no session."""
    return f"{topics.prefix}-{WRITER}-{instance}-control"


def last_will(topics: Topics, instance: str, started_at: float) -> LastWill:
    """The last will of the control connection. `started_at` in unix seconds."""
    return will_of(topics, WRITER, instance, version=version(WRITER), started_at=started_at)


class Writer:
    """Writes the candles and ticks of its share of the symbols (`assignment`), in batches.

    A message is acknowledged when the store's commit has returned, or when its dead letter is with the broker. While
    the store does not respond, at most two batches wait here: the broker keeps the rest, and memory stays flat. Candles
    of a timeframe that the store does not accept are acknowledged, and requested from the aggregator once it accepts
    them.

    `bus` brings candles and ticks and needs a persistent session (`client_id`, `SESSION_SECONDS`), an inbound limit of
    `limits.inbound`, and `PAYLOAD_LIMIT`. `control` is a connection of its own, so that membership messages do not wait
    behind candles that cannot be stored. `clock` gives unix seconds. `backoff`: between attempts to write;
    `request_backoff`: between requests for the same candles. `store_name`: the name of the store that all services of
    the stack share (`ingress_common.prefix`), if it is not the store's location.
    """

    name = WRITER

    def __init__(
        self,
        *,
        bus: Bus,
        control: Bus,
        store: CandleStore,
        topics: Topics,
        instance: str,
        registry: CollectorRegistry,
        started_at: float,
        clock: Callable[[], float] = time.time,
        limits: Limits | None = None,
        backoff: Backoff = _WRITE_BACKOFF,
        request_backoff: Backoff = _REQUEST_BACKOFF,
        unsafe_secrets: Mapping[str, Sequence[str]] = MappingProxyType({}),
        store_name: str | None = None,
    ) -> None:
        self._bus = bus
        self._control = control
        self._store = store
        self._topics = topics
        self._clock = clock
        self._limits = limits or Limits()
        self._backoff = backoff
        self._metrics = WriterMetrics(registry)
        self._intake = Intake(topics)
        self._dead_letters = DeadLetterPublisher(control, topics, WRITER)
        self._time = GatewayTime(clock, time.monotonic)
        self._forming = FormingBuffer()
        self._arrivals = Arrivals()
        # One is filled while the other one is written.
        self._batch = Batch()
        self._begun = time.monotonic()  # when the first row of the batch may have arrived
        self._writing = Batch()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._space = asyncio.Event()
        self._written = 0
        self._last_commit: float | None = None
        self._write_error: str | None = None
        self._ping_error: str | None = _NOT_YET
        self._write_started: float | None = None
        self._leaving = False
        self._was_ready = False
        self._status = StatusPublisher(
            control,
            topics,
            WRITER,
            instance,
            version(WRITER),
            started_at,
            self._details,
            unsafe_secrets=unsafe_secrets,
        )
        self._prefix = PrefixGuard(topics, WRITER, started_at, store_name or store.location)
        self._shares = Shares(topics, WRITER, instance)
        self._marks = QueueMarks(control, topics.marks(WRITER, instance), self._is_behind)
        self._assignment = Assignment(
            bus,
            topics,
            self._shares,
            self._marks,
            Republishing(control, topics, time.monotonic, request_backoff, sent=self._metrics.republish_requests.inc),
            self._time.latest,
            self._symbols_changed,
            self._limits.reassign_seconds,
        )
        self._metrics.in_hand.set_function(self._in_hand)
        self._metrics.in_hand_limit.set(self._limits.inbound)
        self._metrics.missing.set_function(lambda: self._assignment.missing)
        self._metrics.symbols.set_function(lambda: len(self._assignment.symbols))

    def health(self) -> Health:
        """Ready when the store and the broker respond, the writer's own messages return, and candles of all timeframes
        and symbols, and their ticks, arrive.
        """
        error = self._write_error or self._ping_error or self._waiting
        missing = self._arrivals.problem(self._assignment.received_symbols, time.monotonic())
        checks = (
            Check("store", error is None, error or self._store.location),
            broker_check(self._bus, self._control, self._status),
            Check("marks", self._marks.problem is None, self._marks.problem or self._marks.state),
            Check("arrivals", not missing, missing or "candles of all timeframes and symbols, and their ticks, arrive"),
        )
        return Health(live=True, ready=all(check.ok for check in checks), checks=checks)

    def _is_full(self) -> bool:
        return len(self._batch) >= self._limits.rows

    def _is_behind(self) -> bool:
        return self._is_full() or len(self._writing) >= self._limits.rows

    def _in_hand(self) -> int:
        return len(self._batch) + len(self._writing) + len(self._forming)

    @property
    def _waiting(self) -> str | None:
        """Why the store's response is overdue; None if it is not."""
        if (
            self._write_started is None
            or (waited := time.monotonic() - self._write_started) <= self._limits.patience_seconds
        ):
            return None
        return f"{self._store.location}: no response to a write for {waited:.0f} s"

    @property
    def written(self) -> int:
        """Rows written since the start; one that was received twice counts twice."""
        return self._written

    # --- the life of the service -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write until cancelled, then write the rest. StartError if the store cannot be used as it is."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._store)
            except StoreOpenError as error:
                raise StartError(f"STORE_URL: {error}") from None
            await stack.enter_async_context(self._control)
            await stack.enter_async_context(self._bus)
            await self._control.subscribe(*self._shares.filters, self._topics.watermark("+"))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._status.run(), name="writer.status")
                tasks.create_task(self._follow_others(), name="writer.follow")
                tasks.create_task(self._assignment.run(), name="writer.assignment")
                tasks.create_task(self._receive(), name="writer.receive")
                tasks.create_task(self._write_batches(), name="writer.write")
                tasks.create_task(self._watch_store(), name="writer.watch-store")
                tasks.create_task(self._refresh_late(), name="writer.refresh-late")
                tasks.create_task(self._prune(), name="writer.prune")
                await self._until_cancelled()

    async def _until_cancelled(self) -> None:
        """Hand over all symbols while everything still runs, unless no other writer takes them."""
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self._leaving = True
            self._status.announce()
            if self._shares.leave():
                await self._hand_over()
            else:
                log.info("writer.kept-subscriptions", hint="the broker queues messages for the next writer")
            raise

    async def _hand_over(self) -> None:
        try:
            async with asyncio.timeout(self._limits.leave_seconds):
                await self._assignment.hand_everything_over()
        except (TimeoutError, BusError, BusClosedError) as error:
            # The other writers take the symbols over all the same, and the broker keeps our queue.
            log.warning("writer.handover-failed", reason=str(error) or "timeout")

    def _details(self) -> dict[str, Any]:
        health = self.health()
        since = self._assignment.missing_since
        return {
            "ready": health.ready,
            "problems": health.problems,
            "written": self._written,
            "last_commit": None if self._last_commit is None else rfc3339(self._last_commit),
            SYMBOLS: self._assignment.symbols,
            "missing_candles": self._assignment.missing,
            "missing_since": None if since is None else rfc3339(since),
            LEAVING: self._leaving,
            **self._prefix.details,
        }

    async def _watch_store(self) -> None:
        while True:
            before = self._ping_error
            try:
                async with asyncio.timeout(self._limits.patience_seconds):
                    await self._store.ping()
            except StoreUnavailableError as error:
                self._ping_error = str(error)
            except TimeoutError:
                self._ping_error = f"{self._store.location}: no response within {self._limits.patience_seconds:.0f} s"
            else:
                self._ping_error = None
            if self._ping_error is not None and before in (None, _NOT_YET):
                log.warning("store.unavailable", reason=self._ping_error)
            await asyncio.sleep(_PING_SECONDS)

    async def _refresh_late(self) -> None:
        """Request what does not arrive: a symbol that has traded and trades no more has no other candle for a while."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            late = self._arrivals.late_symbols(self._assignment.received_symbols, time.monotonic())
            await self._assignment.refresh(late)

    async def _prune(self) -> None:
        while True:
            try:
                removed = await self._store.prune()
            except StoreUnavailableError as error:
                log.warning("store.prune-failed", reason=str(error))
            else:
                if removed:
                    log.info("store.pruned", rows=removed)
            await asyncio.sleep(_PRUNE_SECONDS)

    # --- who is there ------------------------------------------------------------------------------------------------

    async def _follow_others(self) -> None:
        async for event in self._control.events():
            if isinstance(event, Connected):
                self._shares.reconnected()
                self._status.announce()
                continue
            try:
                if self._process_control(event):
                    self._assignment.changed()
            except (PayloadError, TopicError) as error:
                self._metrics.rejected_statuses.inc()
                log.debug("status.rejected", topic=event.topic, reason=str(error))
            event.ack()

    def _process_control(self, message: Message) -> bool:
        """Process a status, feed or watermark. Return whether owners may have changed."""
        match self._topics.split(message.topic):
            case ("status", _, _) if message.payload:
                status = decode_status_on(message.topic, message.payload)
                if not message.retain:
                    self._status.received(status)
                    self._prefix.received(status)
                return self._shares.status(status)
            case ("feed", _, feed) if message.payload:
                state = decode_feed_state(message.payload)
                if state.feed != feed:
                    raise PayloadError(f"expected the state of feed {feed}, got that of {state.feed}")
                return self._shares.feed(state)
            case ("feed", _, _, "watermark") if not message.retain:
                self._time.received(decode_watermark(message.payload).at)
                if trades := trades_of(message.properties):
                    self._arrivals.published(trades, self._assignment.receives, time.monotonic())
                self._announce_readiness()
        return False

    def _announce_readiness(self) -> None:
        """Publish the status if its readiness has changed, not seconds later. Watermarks call this every second."""
        if (ready := self.health().ready) is not self._was_ready:
            self._was_ready = ready
            self._status.announce()

    def _symbols_changed(self) -> None:
        # Candles of a symbol that another writer has now may be under way.
        self._arrivals.interrupted()
        self._status.announce()

    # --- taking ------------------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        connected_before = False
        taken = 0
        async for event in self._bus.events():
            if isinstance(event, Connected):
                if connected_before and not event.session_kept:
                    log.warning(
                        "writer.session-lost", hint="the broker lost this writer's session and its queued messages"
                    )
                connected_before = True
                self._arrivals.interrupted()
                self._assignment.reconnected()
                continue
            await self._take(event)
            taken += 1
            if not taken % _TAKEN_AT_ONCE:
                # Responses of the store must not wait until the inbox is empty.
                await asyncio.sleep(0)
            while self._is_full():
                self._full.set()
                self._space.clear()
                await self._space.wait()
                self._arrivals.interrupted()

    async def _take(self, message: Message) -> None:
        batch = self._batch
        self._arrived.set()
        if message.topic == self._marks.topic:
            batch.marks.append((message, self._marks.number_of(message)))
            return
        if not message.payload:
            # The retained message was cleared; stored candles stay.
            message.ack()
            return
        now = self._clock()
        try:
            kind, candle = await self._read(message)
        except UnusableError as error:
            await self._dead_letter(batch, message, error.reason, str(error))
            return
        self._metrics.count(kind)
        if kind is not RowKind.TICK:
            self._arrivals.take(candle, time.monotonic(), retained=message.retain)
        self._assignment.received(candle.symbol)
        row = PendingRow(candle, message.ack, now)
        if kind is RowKind.FORMING:
            if not self._forming.put(row):
                self._metrics.passed_over.inc()
        elif kind is RowKind.TICK:
            batch.ticks.append(row)
        else:
            self._forming.closed(row)
            batch.candles.append(row)
            if request := self._assignment.closed(candle, message):
                batch.republished.append((candle.symbol, request))

    async def _read(self, message: Message) -> tuple[RowKind, Candle]:
        try:
            return self._intake.read(message, self._time.latest())
        except AheadError:
            # Our clock may be behind. The candle's gateway has a live feed, whose watermarks show the time.
            await self._time.known()
            return self._intake.read(message, self._time.latest())

    async def _dead_letter(self, batch: Batch, message: Message, reason: Reason, text: str) -> None:
        """Send a dead letter; the batch acknowledges `message` once the broker has confirmed the dead letter."""
        self._metrics.dead_letters.labels(reason.value).inc()
        log.debug("message.rejected", topic=message.topic, reason=text)
        delivery = await self._dead_letters.publish(message.topic, message.payload, text, self._clock())
        # Without the payload, which may be megabytes of nonsense.
        batch.dead_letters.append((replace(message, payload=b""), delivery))

    # --- writing -----------------------------------------------------------------------------------------------------

    async def _write_batches(self) -> None:
        try:
            while True:
                await self._until_due()
                self._writing = self._taken()
                await self._write_until_done()
        except asyncio.CancelledError:
            await self._drain()
            raise

    async def _until_due(self) -> None:
        """Wait until there is something to write, then until the batch is full or old enough."""
        while not (self._batch or self._forming or self._assignment.to_compare):
            self._arrived.clear()
            await _wait(self._arrived, _IDLE_SECONDS)
            self._begun = time.monotonic()
        if not self._assignment.to_compare:
            await _wait(self._full, self._begun + self._limits.seconds - time.monotonic())

    async def _write_until_done(self) -> None:
        attempt = 0
        while True:
            try:
                await self._write()
            except StoreUnavailableError as error:
                self._note_problem(str(error), len(self._writing))
                await asyncio.sleep(self._backoff.pause(attempt))
                attempt += 1
                if len(self._writing) < self._limits.rows:
                    # The store may take what has come since.
                    self._writing.extend(self._taken())
            else:
                return

    def _taken(self) -> Batch:
        """The batch that is being filled; from now on the next one is."""
        batch, self._batch = self._batch, Batch()
        self._begun = time.monotonic()
        self._full.clear()
        self._space.set()
        return batch

    def _note_problem(self, problem: str, rows: int) -> None:
        self._metrics.retries.inc()
        if self._write_error is None:
            log.warning("store.unavailable", reason=problem, rows=rows)
        self._write_error = problem

    async def _write(self) -> None:
        """Write the batch and the forming candles that are due, then acknowledge."""
        batch = self._writing
        if self._assignment.to_compare:
            await self._assignment.compare(self._store)
        now = self._time.latest()
        # At a minute's end the closed candles go first, but in a backlog the forming ones must not stand still.
        room = max(self._limits.rows - len(batch.candles), self._limits.rows // 4)
        forming = self._forming.due(now, self._time.earliest(), room)
        candles, ticks, unstored = batch.candles + forming, batch.ticks, list[PendingRow]()
        if candles or ticks:
            started = self._write_started = time.monotonic()
            try:
                result = await self._store.write([row.candle for row in candles], [row.candle for row in ticks])
            finally:
                self._write_started = None
            self._metrics.batch_seconds.observe(time.monotonic() - started)
            self._metrics.batch_rows.observe(len(candles) + len(ticks))
            if result.problem:
                self._note_problem(result.problem, len(result.unstored_candles))
            unstored = [candles[index] for index in result.unstored_candles]
            await self._rejected(batch, candles, result.rejected_candles, self._candle_topic)
            await self._rejected(batch, ticks, result.rejected_ticks, self._tick_topic)
            candles = _without(candles, result.rejected_candles, result.unstored_candles)
            ticks = _without(ticks, result.rejected_ticks)
        self._assignment.written([row.candle for row in candles], [row.candle for row in unstored])
        if self._write_error is not None and not self._assignment.has_unstored:
            log.info("store.available", rows=len(batch))
            self._write_error = None
        # Rows first: a dead letter that the broker has not confirmed must not delay them.
        self._stored(candles, ticks)
        # Messages are acknowledged in order, so one that waits for its bucket would stop all others. The aggregator
        # republishes them.
        for row in unstored:
            row.ack()
        self._forming.written(forming, now)
        for message, number in batch.marks:
            message.ack()
            self._marks.stored(number)
        for symbol, request in batch.republished:
            self._assignment.republished(symbol, request)
        await self._acknowledge_dead_letters(batch)
        self._writing = Batch()

    def _stored(self, candles: Sequence[PendingRow], ticks: Sequence[PendingRow]) -> None:
        for row in (*candles, *ticks):
            row.ack()
        self._arrivals.stored(row.candle for row in ticks)
        if candles or ticks:
            self._written += len(candles) + len(ticks)
            self._last_commit = now = self._clock()
            self._metrics.committed(RowKind.CANDLE, [row for row in candles if row.candle.closed], now)
            self._metrics.committed(RowKind.FORMING, [row for row in candles if not row.candle.closed], now)
            self._metrics.committed(RowKind.TICK, ticks, now)

    async def _rejected(
        self,
        batch: Batch,
        rows: Sequence[PendingRow],
        rejections: Sequence[Rejection],
        topic_of: Callable[[Candle], str],
    ) -> None:
        """Dead-letter what the store rejects."""
        for rejection in rejections:
            self._metrics.rejected.inc()
            candle, ack, _ = rows[rejection.index]
            message = Message(topic_of(candle), encode_candle(candle), qos=1, retain=False, ack=ack)
            await self._dead_letter(batch, message, Reason.REJECTED, f"the store: {rejection.reason}")

    def _candle_topic(self, candle: Candle) -> str:
        return self._topics.candles(candle.symbol, candle.timeframe)

    def _tick_topic(self, candle: Candle) -> str:
        return self._topics.raw(candle.symbol)

    async def _acknowledge_dead_letters(self, batch: Batch) -> None:
        for message, delivery in batch.dead_letters:
            if not await was_delivered(delivery, message.topic):
                self._metrics.dead_letter_failures.inc()
            message.ack()

    async def _drain(self) -> None:
        """Write the batches in hand before stopping; the broker keeps what cannot be written."""
        try:
            async with asyncio.timeout(self._limits.drain_seconds):
                await self._write()
                self._writing = self._taken()
                await self._write()
        except (TimeoutError, StoreUnavailableError, BusClosedError) as error:
            rows = len(self._writing) + len(self._batch)
            log.warning("writer.batch-left-with-broker", rows=rows, reason=str(error) or "timeout")


def _without(rows: list[PendingRow], rejected: Sequence[Rejection], unstored: Sequence[int] = ()) -> list[PendingRow]:
    left = {*unstored, *(rejection.index for rejection in rejected)}
    return [row for index, row in enumerate(rows) if index not in left] if left else rows


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for `event`, `seconds` long at most."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
