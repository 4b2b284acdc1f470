"""One WebSocket v2 connection: frames, heartbeats, and its end."""

import asyncio
import socket
import struct
from collections.abc import Collection

from aiohttp import WSMsgType, web

from kraken_simulator import frames
from kraken_simulator.exchange import Exchange
from kraken_simulator.feeds import Topic
from kraken_simulator.limits import CallLimit
from kraken_simulator.listeners import Ending, connection_id
from kraken_simulator.subscriptions import ClientSubscriptions

_OUTBOX = 50_000
_HEARTBEAT_SECONDS = 1.0
_POLL_SECONDS = 0.25


class _EndedError(Exception):
    """Ends the task group of a connection."""

    def __init__(self, how: Ending) -> None:
        super().__init__(how.value)
        self.how = how


class WebSocketSession:
    """Serves one connection until it ends."""

    def __init__(
        self,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport,
        exchange: Exchange,
        subscriptions: ClientSubscriptions,
    ) -> None:
        self.number = 0
        self.hung = False
        self._websocket = websocket
        self._transport = transport
        self._exchange = exchange
        self._subscriptions = subscriptions
        self._outbox: asyncio.Queue[str] = asyncio.Queue(_OUTBOX)
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._limit = CallLimit(exchange.config.request_rate, exchange.config.request_burst)
        self._last_sent = self._last_received = exchange.clock()

    @property
    def topics(self) -> Collection[Topic]:
        """The connection's subscriptions."""
        return self._subscriptions.topics

    @property
    def instruments(self) -> frozenset[str]:
        """The asset classes of the instrument subscription; empty without one."""
        return self._subscriptions.instruments

    def follows(self, symbol: str) -> bool:
        """Return whether it is subscribed to a symbol on any channel."""
        return self._subscriptions.follows(symbol)

    def send(self, text: str) -> None:
        """Send a response."""
        try:
            self._outbox.put_nowait(text)
        except asyncio.QueueFull:
            self.end(Ending.SLOW)

    def send_data(self, text: str) -> None:
        """Send a data frame; it is lost while the connection is silent."""
        if self._exchange.is_silent(self):
            self._exchange.stats.data_frames_lost += 1
        else:
            self.send(text)

    def end(self, how: Ending) -> None:
        """End the connection."""
        if not self._ending.done():
            self._ending.set_result(how)

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._exchange.connect(self)
        how = Ending.SHUTDOWN
        try:
            number = connection_id(self._exchange.config.seed, self.number)
            self.send(frames.status(self._exchange.faults.system, number))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(), name=f"session-{self.number}-read")
                tasks.create_task(self._write(), name=f"session-{self.number}-write")
                tasks.create_task(self._await_end(), name=f"session-{self.number}-end")
        except* _EndedError as group:
            how = next(error.how for error in _leaves(group) if isinstance(error, _EndedError))
        finally:
            self._exchange.disconnect(self)
        await self._close(how)

    async def _await_end(self) -> None:
        raise _EndedError(await self._ending)

    async def _read(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message.type in (WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
                raise _EndedError(Ending.CLIENT)
            if self.hung:
                continue
            if message.type is WSMsgType.CLOSE:
                raise _EndedError(Ending.CLIENT)
            if message.type is WSMsgType.PING:
                await self._websocket.pong(message.data)
            elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                # Clients exist that send their requests in binary frames.
                self._last_received = self._exchange.clock()
                data = message.data
                await self._on_request(data if isinstance(data, str) else data.decode(errors="replace"))

    async def _on_request(self, text: str) -> None:
        exchange = self._exchange
        exchange.stats.websocket_requests += 1
        if exchange.faults.on("msg_rate") or not self._limit.allows("", exchange.clock()):
            self.send(frames.RATE_EXCEEDED)
        else:
            await self._subscriptions.respond(text, self)

    async def _write(self) -> None:
        while True:
            due = self._last_sent + _HEARTBEAT_SECONDS - self._exchange.clock()
            try:
                async with asyncio.timeout(min(_POLL_SECONDS, max(0.01, due))):
                    text = await self._outbox.get()
            except TimeoutError:
                self._on_inactivity()
                continue
            await self._send_all(text)

    async def _send_all(self, text: str) -> None:
        """Send a frame and the queued ones after it; they are lost while the connection hangs."""
        frame: str | None = text
        while frame is not None:
            if not self.hung:
                try:
                    await self._websocket.send_str(frame)
                except (ConnectionError, RuntimeError) as error:
                    raise _EndedError(Ending.CLIENT) from error
                self._last_sent = self._exchange.clock()
                self._exchange.stats.frames_sent += 1
            frame = None if self._outbox.empty() else self._outbox.get_nowait()

    def _on_inactivity(self) -> None:
        now = self._exchange.clock()
        if self._subscriptions.is_empty:
            if now - self._last_received >= self._exchange.config.idle_seconds and not self.hung:
                self.end(Ending.IDLE)
        elif now - self._last_sent >= _HEARTBEAT_SECONDS and not self._exchange.is_silent(self):
            self._last_sent = now
            self._exchange.stats.heartbeats_sent += 1
            self.send(frames.HEARTBEAT)

    async def _close(self, how: Ending) -> None:
        if how is Ending.EOF:
            self._transport.close()
        elif how in (Ending.RESET, Ending.SLOW):
            connection = self._transport.get_extra_info("socket")
            if connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        elif how is Ending.PROXY_RESTART:
            await self._websocket.close(code=1001, message=b"CloudFlare WebSocket proxy restarting")
        elif how is Ending.POLICY:
            await self._websocket.close(code=1008, message=b"policy violation")
        elif how is Ending.SHUTDOWN:
            await self._websocket.close(code=1001, message=b"going away")
        else:
            await self._websocket.close()


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return leaves
