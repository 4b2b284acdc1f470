"""One WebSocket connection to Kraken and what every connection needs: frames with the time of their receipt, pings,
Kraken's time, inactivity, a pace for requests, and its end.

Live candles, snapshots and the list of pairs are short programs on it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode, Opcode
from websockets.frames import Frame as WireFrame

from ingress_common.logs import get_logger
from ingress_common.proxies import route_to
from ingress_common.tls import TlsFiles
from kraken_gateway.kraken import protocol
from kraken_gateway.kraken.continuity import STALL, Continuity
from kraken_gateway.kraken.inbox import Inbox
from kraken_gateway.kraken.kraken_time import KrakenClock, KrakenTime
from kraken_gateway.kraken.limits import LONGEST_PAUSE, CircuitBreaker, ConnectionLimiter
from kraken_gateway.kraken.protocol import Frame, Params
from kraken_gateway.kraken.unreachable import unreachable
from kraken_gateway.metrics import GatewayMetrics

SEND_GAP = 0.1
"""Seconds between requests on one socket (`kraken-protocol.md`, limits)."""

INACTIVITY = 10.0
"""Seconds without any frame after which a connection counts as dead (fact 9)."""

_OPEN_SECONDS = 10.0
_SEND_SECONDS = 5.0
_STATUS_SECONDS = 2.0
_RESPONSE_SECONDS = 30.0
_PING_SECONDS = 20.0
_IDLE_PING_SECONDS = 5.0
_GATHER_SECONDS = 0.05
"""Frames of this long are processed together, which saves wake-ups; forming candles are published as often."""

_BATCH = 200
_MAX_FRAME = 16 * 2**20

log = get_logger(__name__)


class ConnectionLost(Exception):  # noqa: N818 - an expected event, not an error
    """A connection has ended or could not be made. `reason` is the label for metrics; the text has the details."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Received(msgspec.Struct, frozen=True, gc=False):
    """A frame: what it states, its text, our steady clock (seconds) and Kraken's time (unix seconds) at its receipt.

    `sent`: when Kraken sent it (unix seconds), None if unknown. `interrupted`: frames before it are missing.
    """

    frame: Frame
    raw: str | bytes
    steady: float
    at: float
    sent: float | None
    interrupted: bool

    @property
    def payload(self) -> bytes:
        """The frame as bytes, for a dead letter."""
        return self.raw if isinstance(self.raw, bytes) else self.raw.encode()


class _Socket(ClientConnection):
    """Passes each message on within the callback that received it: no task, no future, and an exact time of receipt."""

    received: Callable[[str | bytes], None] | None = None

    def process_event(self, event: Any) -> None:
        """Process whole messages here; the library processes fragments and control frames."""
        if not self.received or not isinstance(event, WireFrame) or not event.fin:
            super().process_event(event)
        elif event.opcode is Opcode.TEXT:
            self.received(str(event.data, "utf-8", "replace"))
        elif event.opcode is Opcode.BINARY:
            self.received(bytes(event.data))
        else:
            super().process_event(event)


class Connection:
    """An open connection. `wait` for frames, `receive` them, `send` requests.

    It learns Kraken's time from pongs and acks. `wait` pings when that is due, and ends the connection when nothing is
    received for INACTIVITY although everything that was received has been processed: a process that is behind, or was
    stopped, never mistakes its own backlog for Kraken's silence. `required`: parameters that every subscription needs
    at this URL.
    """

    def __init__(
        self,
        purpose: str,
        socket: _Socket,
        clock: KrakenClock,
        metrics: GatewayMetrics,
        on_worked: Callable[[], None],
        inactivity: float = INACTIVITY,
        required: Params = MappingProxyType({}),
    ) -> None:
        loop = asyncio.get_running_loop()
        self.purpose = purpose
        self.time = KrakenTime(clock)
        self.has_worked = False
        self.system: str | None = None
        self._socket = socket
        self._clock = clock
        self._metrics = metrics
        self._on_worked = on_worked
        self._required = required
        self._inactivity = inactivity
        self._steady = loop.time
        self._inbox = Inbox(metrics.conflated.inc)
        self._arrived = asyncio.Event()
        self._lost: ConnectionLost | None = None
        self._gap = SEND_GAP
        self._next_send = self.opened = self.last_arrival = self._active_since = loop.time()
        self._pinged = self.opened - _PING_SECONDS
        self._responded = False
        self._subscribed_at: float | None = None
        self._continuity = Continuity(self.opened)
        self._last_id = 1
        self._paused = False

    # --- state ---

    @property
    def backlog(self) -> int:
        """Frames that were received and not yet processed."""
        return len(self._inbox)

    @property
    def lag(self) -> float:
        """Seconds for which the oldest of these frames has waited."""
        oldest = self._inbox.oldest()
        return 0.0 if oldest is None else self._steady() - oldest

    @property
    def caught_up(self) -> bool:
        """Whether everything received has been processed and nothing before it can be missing."""
        return not self._inbox and self._continuity.pending_since is None

    @property
    def in_order(self) -> bool:
        """Whether everything received before the last frame has been processed."""
        return self._inbox.in_order

    def worked(self) -> None:
        """Note that the connection has served its purpose."""
        self.has_worked = True
        self._on_worked()

    def may_subscribe(self) -> bool:
        """Whether Kraken is ready for subscriptions: it has sent its status, or had enough time to."""
        if self.system == "maintenance":
            return False
        return self.system is not None or self._steady() >= self.opened + _STATUS_SECONDS

    # --- out ---

    @property
    def next_send(self) -> float:
        """When the next request may be sent (steady seconds)."""
        return self._next_send

    def next_id(self) -> int:
        """A `req_id` that was not used on this connection."""
        self._last_id += 1
        return self._last_id

    async def subscribe(self, params: Params, req_id: int) -> None:
        """Send a subscribe, not sooner than the pace allows."""
        if self._subscribed_at is None:
            self._subscribed_at = self._steady()
        await self.send(protocol.subscribe({**params, **self._required}, req_id))

    async def unsubscribe(self, params: Params, req_id: int) -> None:
        """Send an unsubscribe, not sooner than the pace allows."""
        await self.send(protocol.unsubscribe({**params, **self._required}, req_id))

    async def send(self, text: str) -> None:
        """Send a request, not sooner than SEND_GAP after the last one."""
        if (wait := self._next_send - self._steady()) > 0:
            await asyncio.sleep(wait)
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await self._socket.send(text)
        except TimeoutError:
            raise ConnectionLost("stuck", "Kraken does not read: the send buffer is full") from None
        except ConnectionClosed as error:
            raise _lost(error) from None
        self._next_send = self._steady() + self._gap

    def _ping_due(self) -> float:
        """When to ping: periodically for Kraken's time, more often while no frame arrives, and at once after a stall,
        because a pong has the time at which it was sent and a heartbeat does not.
        """
        if self._pinged < (self._continuity.pending_since or float("-inf")):
            return self._next_send
        idle = max(self._pinged + _IDLE_PING_SECONDS, self.last_arrival + STALL)
        return max(self._next_send, min(self._pinged + _PING_SECONDS, idle))

    # --- in ---

    async def wait(self, until: float) -> None:
        """Return when frames wait, or at `until` (steady seconds) at the latest. ConnectionLost once it is over and all
        frames are processed.
        """
        if self._steady() >= self._ping_due():
            self._pinged = self._steady()
            await self.send(protocol.ping(self.next_id()))
        if self._inbox:
            # Let other tasks run within a burst.
            await asyncio.sleep(0)
            return
        if self._lost is not None:
            raise self._lost
        self._arrived.clear()
        until = min(until, self._ping_due(), self._active_since + self._inactivity)
        try:
            async with asyncio.timeout_at(until):
                await self._arrived.wait()
            if self._lost is None:
                await asyncio.sleep(_GATHER_SECONDS)
        except TimeoutError:
            if self._steady() - until > 1.0:
                # This process was not running: frames from meanwhile are still in the socket.
                self._active_since = self._steady()
        await self._check_activity()

    async def _check_activity(self) -> None:
        now = self._steady()
        if self._subscribed_at is not None and not self._responded and now - self._subscribed_at > _RESPONSE_SECONDS:
            raise ConnectionLost("unanswered", f"no subscription got a response within {_RESPONSE_SECONDS:.0f} s")
        if now - self._active_since < self._inactivity:
            return
        for _ in range(4):
            # A few iterations of the loop read what is in the socket.
            await asyncio.sleep(0)
        if now - self._active_since >= self._inactivity and not self._inbox:
            raise ConnectionLost("inactive", f"no frame for {self._inactivity:.0f} s")

    def wake(self) -> None:
        """Make `wait` return: there is something new to do."""
        self._arrived.set()

    def receive(self) -> Iterator[Received]:
        """The frames that wait, in order, but not more than a batch."""
        for _ in range(_BATCH):
            arrival = self._inbox.take()
            if arrival is None:
                break
            frame, steady = protocol.parse_frame(arrival.frame), arrival.steady
            self._metrics.count_frame(frame.label)
            self._note(frame, steady)
            at, sent = self.time.at(steady), protocol.sent_at(frame)
            sent_steady = None if sent is None else steady - (at - sent)
            interrupted = self._continuity.arrived(steady, sent_steady, in_order=self._inbox.in_order)
            yield Received(frame, arrival.frame, steady, at, sent, interrupted)
        if self._paused and not self._inbox.full:
            self._paused = False
            self._socket.transport.resume_reading()

    def _note(self, frame: Frame, steady: float) -> None:
        """Update clock, pace and system state from a frame."""
        match frame:
            case protocol.OhlcFrame():
                self._responded = True
                if frame.timestamp is not None and not frame.snapshot:
                    self.time.observe_frame(frame.timestamp, steady)
            case protocol.InstrumentFrame():
                self._responded = True
            case protocol.Pong(time=float(stamp)):
                self.time.observe_reply(stamp, steady)
                self._clock.learn(self.purpose, self.time.offset)
            case protocol.Ack() | protocol.Refusal():
                self._responded = True
                if frame.time is not None:
                    self.time.observe_reply(frame.time, steady)
                    self._clock.learn(self.purpose, self.time.offset)
            case protocol.RateExceeded():
                log.warning("kraken.rate-exceeded", purpose=self.purpose)
                self._gap = min(self._gap * 2, 2.0)
                self._next_send = self._steady() + 5.0
            case protocol.SystemStatus():
                if frame.system != self.system:
                    log.info("kraken.system", purpose=self.purpose, system=frame.system)
                self.system = frame.system
                if frame.system == "maintenance" and self._subscribed_at is not None:
                    self._lost = ConnectionLost("maintenance", "Kraken is in maintenance")
            case _:
                pass

    def take_in(self, frame: str | bytes) -> None:
        """Queue a received frame."""
        now = self._steady()
        self.last_arrival = self._active_since = now
        self._inbox.put(frame, now)
        self._arrived.set()
        if self._inbox.full and not self._paused:
            self._paused = True
            self._socket.transport.pause_reading()

    async def read(self) -> None:
        """Queue frames until the connection ends, and note the reason."""
        try:
            async for message in self._socket:
                self.take_in(message)
            self._lost = ConnectionLost("closed", f"Kraken closed the connection: {self._socket.close_code}")
        except ConnectionClosed as error:
            self._lost = _lost(error)
        self._arrived.set()


class Kraken:
    """Kraken's WebSocket: its URL, its trusted authorities, its time, and how often it may be called."""

    def __init__(
        self,
        url: str,
        limiter: ConnectionLimiter,
        clock: KrakenClock,
        metrics: GatewayMetrics,
        tls: TlsFiles = TlsFiles(),  # noqa: B008 - immutable
    ) -> None:
        self.url = url
        self._tls = tls.client_context() if url.startswith("wss:") else None
        self.clock = clock
        self.limiter = limiter
        self._metrics = metrics
        self._breaker = CircuitBreaker()
        self._required = protocol.required_by(url)

    @asynccontextmanager
    async def connect(self, purpose: str, inactivity: float = INACTIVITY) -> AsyncIterator[Connection]:
        """Connect once the limiter and the circuit breaker allow it. ConnectionLost if that fails.

        The user of the connection calls `worked`. `purpose` names it in logs.
        """
        # Several gateways share the limit, so the pauses follow from it.
        longest = max(LONGEST_PAUSE, self.limiter.lone_pause)
        attempt = object()
        has_worked = False

        def worked() -> None:
            nonlocal has_worked
            has_worked = True
            self._breaker.worked(attempt)

        await self._breaker.enter(attempt)
        try:
            await self.limiter.acquire()
            self._metrics.connects.labels(purpose.split(" ", 1)[0]).inc()
            async with self._opened(purpose, worked, inactivity) as connection:
                yield connection
        except ConnectionLost as lost:
            if not has_worked:
                self._breaker.failed(attempt, lost.reason, longest)
            raise
        finally:
            self._breaker.left(attempt)

    @asynccontextmanager
    async def _opened(self, purpose: str, worked: Callable[[], None], inactivity: float) -> AsyncIterator[Connection]:
        socket = await self._open()
        connection = Connection(purpose, socket, self.clock, self._metrics, worked, inactivity, self._required)
        socket.received = connection.take_in
        reader = asyncio.create_task(connection.read(), name=f"kraken.read {purpose}")
        try:
            yield connection
            await socket.close()
        finally:
            # A half-open socket, or one with full buffers, must not delay us.
            socket.transport.abort()
            reader.cancel()
            await asyncio.wait([reader])

    async def _open(self) -> _Socket:
        try:
            socket = await connect(
                self.url,
                ssl=self._tls,
                create_connection=_Socket,
                max_size=_MAX_FRAME,
                open_timeout=_OPEN_SECONDS,
                close_timeout=1.0,
                ping_interval=None,
            )
        except InvalidStatus as error:
            code = error.response.status_code
            reason = "too-many-connects" if code == 429 else "refused"
            raise ConnectionLost(reason, f"{self.url} responded HTTP {code}") from None
        except TimeoutError:
            reason = f"{route_to(self.url)} did not respond within {_OPEN_SECONDS:.0f} s"
            raise ConnectionLost("unreachable", reason) from None
        except (OSError, WebSocketException, EOFError) as error:
            raise ConnectionLost("unreachable", unreachable(self.url, error)) from None
        if not isinstance(socket, _Socket):
            raise TypeError(f"expected a {_Socket.__name__}, got {type(socket).__name__}")
        return socket


def _lost(error: ConnectionClosed) -> ConnectionLost:
    if error.rcvd is None:
        return ConnectionLost("cut", "the connection ended without a close frame")
    if error.rcvd.code == CloseCode.POLICY_VIOLATION:
        return ConnectionLost("policy", f"Kraken closed the connection: {error.rcvd.code} {error.rcvd.reason}".rstrip())
    return ConnectionLost("closed", f"Kraken closed the connection: {error.rcvd.code} {error.rcvd.reason}".rstrip())
