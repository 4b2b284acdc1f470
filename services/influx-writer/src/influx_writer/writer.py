"""The service: from the bus into the store, acknowledged once it is there."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry

from influx_writer.forming import FormingCandles
from influx_writer.group import LEAVING, Group, OpenSession
from influx_writer.intake import Kind, Reason, Row, UnusableError, read
from influx_writer.metrics import WriterMetrics
from ingress_common.bus import Bus, BusClosedError, BusError, Connected, LastWill, Message
from ingress_common.errors import StartError
from ingress_common.health import Check, Health
from ingress_common.logs import get_logger
from ingress_common.membership import SILENT_SECONDS
from ingress_common.payloads import dead_letter, encode_dead_letter
from ingress_common.presence import StatusPublisher, will_of
from ingress_common.times import rfc3339
from ingress_common.topics import Topics
from ingress_store import CandleStore, Rejection, StoreOpenError, StoreUnavailableError

NAME = "influx-writer"
SESSION_SECONDS = 7 * 86400
"""How long the broker keeps what an absent writer has not acknowledged."""

_PING_SECONDS = 5.0
_PRUNE_SECONDS = 3600.0
_SETTLE_SECONDS = 1.0
_QUEUE = 500
_LEAVE_SECONDS = 2.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """A batch is written when it has `rows` rows, or is `seconds` old. `drain_seconds`: for the last one, on a stop.
    `adopt_seconds`: how long another writer may be away before its session is taken over; `silent_seconds`: how long
    one that is called online may say nothing before it counts as away.

    The bus must let at least `rows` unacknowledged messages in, else a batch is never full.
    """

    rows: int = 5_000
    seconds: float = 0.5
    drain_seconds: float = 5.0
    adopt_seconds: float = 5.0
    silent_seconds: float = SILENT_SECONDS


@dataclass(slots=True)
class _Batch:
    """What has been taken from the bus and is not yet acknowledged."""

    candles: list[Row] = field(default_factory=list)
    ticks: list[Row] = field(default_factory=list)
    buried: list[tuple[Message, Awaitable[None]]] = field(default_factory=list)
    rejected: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.candles) + len(self.ticks) + len(self.buried)


def client_id(instance: str) -> str:
    """The MQTT client of an instance: stable, because the broker keeps its session under this name."""
    return f"{NAME}-{instance}"


def own_filters(topics: Topics) -> tuple[str, ...]:
    """What a writer subscribes to that is alone: all candles and ticks."""
    return (topics.candles("+", "+"), topics.raw("+"))


def shared_filters(topics: Topics) -> tuple[str, ...]:
    """The same for one of several writers, among which the broker shares the messages out.

    Not for the embedded broker: it ends when a member of a group disconnects.
    """
    return tuple(f"$share/{NAME}/{topic_filter}" for topic_filter in own_filters(topics))


def last_will(topics: Topics, instance: str, started_at: float) -> LastWill:
    """What the broker says when the writer's connection dies. `started_at` in unix seconds."""
    return will_of(topics, NAME, instance, version=version(NAME), started_at=started_at)


def retry_delay(attempt: int) -> float:
    """Seconds before attempt number `attempt` + 1 of a write: exponential up to 10 s, with full jitter."""
    return random.uniform(0, min(10.0, 0.2 * 2 ** min(attempt, 16)))  # noqa: S311 - jitter


class Writer:
    """Takes candles and ticks from its subscriptions (`filters`) and writes them in batches.

    A message is acknowledged when the store's commit has returned, or when its dead letter is with the broker. While
    the store is away the batch in hand waits and nothing more is taken: the broker keeps the rest, memory stays flat.
    `bus` needs a persistent session (`client_id`, `SESSION_SECONDS`), an inbound limit of at least `limits.rows`, and
    `PAYLOAD_LIMIT`;
    `open_session` makes more of that kind for a writer that is one of several; `clock` gives unix seconds.
    """

    name = NAME

    def __init__(
        self,
        *,
        bus: Bus,
        store: CandleStore,
        topics: Topics,
        filters: Sequence[str],
        instance: str,
        registry: CollectorRegistry,
        started_at: float,
        open_session: OpenSession | None = None,
        clock: Callable[[], float] = time.time,
        limits: Limits | None = None,
        backoff: Callable[[int], float] = retry_delay,
    ) -> None:
        self._bus = bus
        self._store = store
        self._topics = topics
        self._filters = tuple(filters)
        self._clock = clock
        self._limits = limits or Limits()
        self._backoff = backoff
        self._metrics = WriterMetrics(registry)
        self._forming = FormingCandles()
        self._queue: asyncio.Queue[Message] = asyncio.Queue(_QUEUE)
        self._batch = _Batch()
        self._written = 0
        self._last_commit: float | None = None
        self._write_error: str | None = None
        self._ping_error: str | None = "not asked yet"
        self._leaving = False
        self._status = StatusPublisher(bus, topics, NAME, instance, version(NAME), started_at, self._details)
        self._group = open_session and Group(
            NAME,
            instance,
            topics,
            filters,
            open_session,
            SESSION_SECONDS,
            self._queue.put,
            self._status.heard,
            self._limits.adopt_seconds,
            self._metrics.rejected_statuses.inc,
            self._limits.silent_seconds,
        )
        self._metrics.in_hand.set_function(lambda: len(self._batch) + len(self._forming))
        self._metrics.in_hand_limit.set(self._limits.rows)
        self._metrics.queued.set_function(self._queue.qsize)
        self._metrics.queue_limit.set(_QUEUE)

    def health(self) -> Health:
        """Ready when store and broker both answer."""
        error = self._write_error or self._ping_error
        checks = (
            Check("store", error is None, error or self._store.location),
            Check("broker", self._bus.connected, "connected" if self._bus.connected else "not connected"),
        )
        return Health(live=True, ready=all(check.ok for check in checks), checks=checks)

    @property
    def written(self) -> int:
        """Rows that are in the store, counted since the start; one that came twice counts twice."""
        return self._written

    async def run(self) -> None:
        """Write until cancelled, then write the batch in hand; StartError if the store cannot be used as it is."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._store)
            except StoreOpenError as error:
                raise StartError(f"STORE_URL: {error}") from None
            await stack.enter_async_context(self._bus)
            await self._bus.subscribe(*self._filters)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._status.run(), name="writer.status")
                tasks.create_task(self._receive(), name="writer.receive")
                tasks.create_task(self._write_batches(), name="writer.write")
                tasks.create_task(self._watch_store(), name="writer.watch-store")
                tasks.create_task(self._prune(), name="writer.prune")
                tasks.create_task(self._settle(), name="writer.settle")
                if self._group is not None:
                    tasks.create_task(self._group.run(), name="writer.group")
                    await self._until_cancelled(self._group)

    async def _until_cancelled(self, group: Group) -> None:
        """Leave the group while everything still runs: what is in hand then is the last that comes."""
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._leave(group)
            except (TimeoutError, BusError, BusClosedError) as error:
                # Another writer adopts the session.
                log.warning("writer.left-without-goodbye", reason=str(error) or "timeout")
            raise

    async def _leave(self, group: Group) -> None:
        self._leaving = True
        self._status.announce()
        if await group.others_stay():
            await self._bus.unsubscribe(*self._filters)
            while self._queue.qsize() or self._batch or self._forming:  # noqa: ASYNC110 - once, at the end
                await asyncio.sleep(self._limits.seconds / 5)
        else:
            log.info("writer.last", hint="the broker keeps what comes for the next one")

    async def _receive(self) -> None:
        connected_before = False
        async for event in self._bus.events():
            if isinstance(event, Connected):
                self._status.announce()
                if connected_before and not event.session_kept:
                    log.warning("writer.session-lost", hint="the broker forgot what it kept for this writer")
                connected_before = True
            else:
                await self._queue.put(event)

    async def _write_batches(self) -> None:
        try:
            while True:
                await self._fill()
                await self._write_until_done()
        except asyncio.CancelledError:
            await self._drain()
            raise

    async def _fill(self) -> None:
        """Add messages to the batch until it is full or old; wait for the first one unless forming candles wait."""
        loop = asyncio.get_running_loop()
        if not self._forming:
            await self._take(await self._queue.get())
        deadline = loop.time() + self._limits.seconds
        while len(self._batch) < self._limits.rows and loop.time() < deadline:
            if self._queue.empty():
                try:
                    async with asyncio.timeout_at(deadline):
                        message = await self._queue.get()
                except TimeoutError:
                    return
            else:
                message = self._queue.get_nowait()
            await self._take(message)

    async def _take(self, message: Message) -> None:
        try:
            row = read(self._topics, message, self._clock())
        except UnusableError as error:
            await self._bury(message, error.reason, str(error))
            return
        self._metrics.received.labels(row.kind.value).inc()
        if row.kind is Kind.FORMING:
            if not self._forming.put(row):
                self._metrics.passed_over.inc()
        elif row.kind is Kind.TICK:
            self._batch.ticks.append(row)
        else:
            self._forming.closed(row)
            self._batch.candles.append(row)

    async def _write_until_done(self) -> None:
        attempt = 0
        while True:
            try:
                await self._write()
            except StoreUnavailableError as error:
                self._metrics.retries.inc()
                if self._write_error is None:
                    log.warning("store.unavailable", reason=str(error), rows=len(self._batch))
                self._write_error = str(error)
                await asyncio.sleep(self._backoff(attempt))
                attempt += 1
            else:
                return

    async def _write(self) -> None:
        """Write the batch and the forming candles that are due, then acknowledge; the batch is a new one after that."""
        batch = self._batch
        now = self._clock()
        forming = self._forming.due(now, self._limits.rows - len(batch))
        candles = batch.candles + forming
        if candles or batch.ticks:
            started = time.monotonic()
            result = await self._store.write([row.candle for row in candles], [row.candle for row in batch.ticks])
            if self._write_error is not None:
                log.info("store.available", rows=len(batch))
            self._write_error = None
            self._metrics.batch_seconds.observe(time.monotonic() - started)
            self._metrics.batch_rows.observe(len(candles) + len(batch.ticks))
            await self._bury_rejected(candles, result.rejected_candles)
            await self._bury_rejected(batch.ticks, result.rejected_ticks)
        taken = [row for row in (*candles, *batch.ticks) if id(row.message) not in batch.rejected]
        # The rows first: a dead letter that the broker does not take yet must not hold them up.
        for row in taken:
            row.message.ack()
        if taken:
            self._committed(taken)
        self._forming.written(forming, now)
        batch.candles, batch.ticks = [], []
        await self._acknowledge_buried(batch)
        self._batch = _Batch()

    def _committed(self, rows: list[Row]) -> None:
        self._written += len(rows)
        self._last_commit = self._clock()
        self._metrics.committed(rows, self._last_commit)

    async def _bury_rejected(self, rows: list[Row], rejections: tuple[Rejection, ...]) -> None:
        for rejection in rejections:
            self._metrics.rejected.inc()
            message = rows[rejection.index].message
            self._batch.rejected.add(id(message))
            await self._bury(message, Reason.REJECTED, f"the store: {rejection.reason}")

    async def _bury(self, message: Message, reason: Reason, text: str) -> None:
        """Send a dead letter; `message` is acknowledged with the batch, once the broker has the letter."""
        self._metrics.dead_letters.labels(reason.value).inc()
        log.debug("message.dead", topic=message.topic, reason=text)
        letter = dead_letter(message.topic, message.payload, text, self._clock())
        delivery = await self._bus.publish(self._topics.dead_letter(NAME), encode_dead_letter(letter))
        # Without the payload, which may be megabytes of nonsense.
        self._batch.buried.append((replace(message, payload=b""), delivery))

    async def _acknowledge_buried(self, batch: _Batch) -> None:
        for message, delivery in batch.buried:
            try:
                await delivery
            except BusError as error:
                # The broker will never take this letter (too large, say): the log has to do, or it would come for ever.
                self._metrics.dead_letter_failures.inc()
                log.error("dead-letter.refused", topic=message.topic, reason=str(error))
            message.ack()

    async def _drain(self) -> None:
        """One more write on the way out; what does not get through stays with the broker."""
        if not self._batch and not self._forming:
            return
        try:
            async with asyncio.timeout(self._limits.drain_seconds):
                await self._write()
        except (TimeoutError, StoreUnavailableError, BusClosedError) as error:
            log.warning("writer.batch-left-with-broker", rows=len(self._batch), reason=str(error) or "timeout")

    async def _watch_store(self) -> None:
        while True:
            try:
                await self._store.ping()
            except StoreUnavailableError as error:
                self._ping_error = str(error)
            else:
                self._ping_error = None
            await asyncio.sleep(_PING_SECONDS)

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

    async def _settle(self) -> None:
        while True:
            await asyncio.sleep(_SETTLE_SECONDS)
            try:
                settlement = await self._store.settle()
            except StoreUnavailableError as error:
                log.debug("store.not-settled", reason=str(error))
                continue
            self._metrics.rewritten.inc(settlement.rewritten)
            self._metrics.unsettled_dropped.inc(settlement.dropped)

    def _details(self) -> dict[str, Any]:
        health = self.health()
        return {
            "ready": health.ready,
            "problems": [f"{check.name}: {check.detail}" for check in health.checks if not check.ok],
            "written": self._written,
            "last_commit": None if self._last_commit is None else rfc3339(self._last_commit),
            LEAVING: self._leaving,
        }
