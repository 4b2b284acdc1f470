"""One WebSocket connection to Kraken: frames with the time of their receipt, requests at a pace."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from kraken_gateway.kraken.budget import ConnectionBudget, Urgency
from kraken_gateway.kraken.gate import LONGEST_PAUSE, Gate
from kraken_gateway.kraken.kraken_time import KrakenClock

SEND_GAP = 0.1
"""Seconds between requests on one socket (`kraken-protocol.md`, limits)."""

SILENCE = 10.0
"""Seconds without any frame after which a connection counts as dead (fact 9)."""

OVER_BUDGET = "over-budget"
"""The reason of a ConnectionLost where no attempt was made."""

_OPEN_SECONDS = 10.0
_SEND_SECONDS = 5.0
_MAX_FRAME = 16 * 2**20
_QUEUE = 4096
_LIBRARY_QUEUE = 1024


class ConnectionLost(Exception):  # noqa: N818 - an event of the day's work, not an error
    """A connection is over or could not be made. `reason` is a word for metrics; the text says more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Received:
    """A frame; `wall` (unix seconds) and `steady` (seconds) are our clocks when it arrived. `wall` may step."""

    frame: str | bytes
    wall: float
    steady: float


class Connection:
    """An open connection. `receive` gives frames in order; `send` keeps the pace.

    `time`: Kraken's time as others have measured it. `on_worked` is called by `worked`.
    """

    def __init__(self, socket: ClientConnection, time: KrakenClock, on_worked: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._socket = socket
        self._on_worked = on_worked
        self.has_worked = False
        self.time = time
        self._steady = loop.time
        self._frames: asyncio.Queue[Received | ConnectionLost] = asyncio.Queue(_QUEUE)
        self._gap = SEND_GAP
        self._next_send = loop.time()
        self._next_id = 1
        self.opened = loop.time()
        self.last_arrival = loop.time()

    @property
    def next_send(self) -> float:
        """When the next request may be sent (steady seconds)."""
        return self._next_send

    def worked(self) -> None:
        """Kraken has given what this connection was made for."""
        self.has_worked = True
        self._on_worked()

    def next_id(self) -> int:
        """A `req_id` that was not used on this connection."""
        self._next_id += 1
        return self._next_id

    async def send(self, text: str) -> None:
        """Send a request, not sooner than SEND_GAP after the last one."""
        if (wait := self._next_send - self._steady()) > 0:
            await asyncio.sleep(wait)
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await self._socket.send(text)
        except TimeoutError:
            raise ConnectionLost("stuck", "Kraken takes nothing any more") from None
        except ConnectionClosed as error:
            raise _lost(error) from None
        self._next_send = self._steady() + self._gap

    def slow_down(self) -> None:
        """Kraken says that we ask too much: pause, and ask at half the pace from now on."""
        self._gap = min(self._gap * 2, 2.0)
        self._next_send = self._steady() + 5.0

    async def receive(self, until: float) -> Received | None:
        """The next frame, or None if none has come by `until` (steady seconds).

        ConnectionLost once all frames are out.
        """
        if self._frames.empty():
            try:
                async with asyncio.timeout_at(until):
                    item = await self._frames.get()
            except TimeoutError:
                return None
        else:
            # Others get their turn within a burst.
            await asyncio.sleep(0)
            item = self._frames.get_nowait()
        if isinstance(item, ConnectionLost):
            raise item
        return item

    async def drained(self) -> bool:
        """Whether everything that has arrived by now has been given out by `receive`.

        A frame's time of receipt says that all before it was received, only if none that arrived earlier still waits
        in a buffer, as after a pause of the loop. A few rounds of the loop bring what is in the socket here.
        """
        for _ in range(4):
            if not self._frames.empty():
                return False
            await asyncio.sleep(0)
        return self._frames.empty()

    async def read(self) -> None:
        """Move frames from the socket until it closes. A task of its own, so that their times are right."""
        while True:
            try:
                frame = await self._socket.recv()
            except ConnectionClosed as error:
                await self._frames.put(_lost(error))
                return
            self.last_arrival = self._steady()
            await self._frames.put(Received(frame, self.time.wall(), self.last_arrival))


class Kraken:
    """Where Kraken's WebSocket is, what time it is there, and how often it may be called."""

    def __init__(
        self,
        url: str,
        budget: ConnectionBudget,
        time: KrakenClock,
        counted: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`counted` is waited for after each attempt has been counted and before it is made."""
        self.url = url
        self.time = time
        self.budget = budget
        self._counted = counted
        self._gate = Gate()

    @property
    def fair_pause(self) -> float:
        """Seconds between tries that a feed can keep up without end."""
        return self.budget.fair_pause

    @property
    def works(self) -> bool:
        """Whether the last attempt brought what it was for."""
        return self._gate.is_open

    async def pause(self, seconds: float) -> None:
        """Wait `seconds` before a new try, or only until a Kraken that did not work does so again."""
        await self._gate.pause(seconds)

    @asynccontextmanager
    async def connect(self, urgency: Urgency, patience: float | None = None) -> AsyncIterator[Connection]:
        """A connection, once it is our turn (`gate`) and the budget allows it. ConnectionLost if it cannot be made, or
        if the budget does not allow it within `patience` seconds.

        Whoever uses it says when it has `worked`.
        """
        # Several gateways share the budget, and with it the pauses that it can bear.
        longest = max(LONGEST_PAUSE, self.budget.lone_pause)
        attempt = object()
        has_worked = False

        def worked() -> None:
            nonlocal has_worked
            has_worked = True
            self._gate.worked(attempt)

        # Whoever has to wait for the budget must not keep the others from trying.
        await self._within(patience, self.budget.until_allowed(urgency), urgency)
        await self._gate.enter(attempt)
        try:
            await self._within(patience, self.budget.acquire(urgency), urgency)
            if self._counted is not None:
                await self._counted()
            async with self._opened(worked) as connection:
                yield connection
        except ConnectionLost as lost:
            if not has_worked and lost.reason != OVER_BUDGET:
                self._gate.failed(attempt, lost.reason, longest)
            raise
        finally:
            self._gate.left(attempt)

    async def _within(self, patience: float | None, allowance: Awaitable[None], urgency: Urgency) -> None:
        try:
            async with asyncio.timeout(patience):
                await allowance
        except TimeoutError:
            raise ConnectionLost(OVER_BUDGET, self.budget.described(urgency)) from None

    @asynccontextmanager
    async def _opened(self, worked: Callable[[], None]) -> AsyncIterator[Connection]:
        socket = await self._open()
        connection = Connection(socket, self.time, worked)
        reader = asyncio.create_task(connection.read(), name="kraken.read")
        try:
            yield connection
            await socket.close()
        finally:
            # A socket that is half-open, or whose buffers are full, must not hold us up.
            socket.transport.abort()
            reader.cancel()
            await asyncio.wait([reader])

    async def _open(self) -> ClientConnection:
        try:
            return await connect(
                self.url,
                max_size=_MAX_FRAME,
                max_queue=_LIBRARY_QUEUE,
                open_timeout=_OPEN_SECONDS,
                close_timeout=1.0,
                ping_interval=None,
            )
        except InvalidStatus as error:
            code = error.response.status_code
            reason = "too-many-connects" if code == 429 else "refused"
            raise ConnectionLost(reason, f"{self.url} answered HTTP {code}") from None
        except TimeoutError:
            raise ConnectionLost("unreachable", f"{self.url} did not answer within {_OPEN_SECONDS:.0f} s") from None
        except (OSError, WebSocketException, EOFError) as error:
            raise ConnectionLost(
                "unreachable", f"{self.url} cannot be reached: {str(error) or type(error).__name__}"
            ) from None


def _lost(error: ConnectionClosed) -> ConnectionLost:
    if error.rcvd is None:
        return ConnectionLost("cut", "the connection ended without a close frame")
    return ConnectionLost("closed", f"Kraken closed the connection: {error.rcvd.code} {error.rcvd.reason}".rstrip())
