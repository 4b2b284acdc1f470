"""One WebSocket v2 connection: its requests, subscriptions, heartbeats, and the ways it can end."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

from aiohttp import WSMsgType, web

from kraken_simulator import frames
from kraken_simulator.candles import INTERVALS
from kraken_simulator.exchange import Ending, Exchange, connection_id
from kraken_simulator.limits import CallLimit

_OUTBOX = 20_000
_HEARTBEAT_SECONDS = 1.0
_LOOK_SECONDS = 0.25
_PRIVATE = frozenset({"executions", "balances", "level3"})


class _EndedError(Exception):
    """Ends the task group of a connection."""

    def __init__(self, how: Ending) -> None:
        super().__init__(how.value)
        self.how = how


class Session:
    """Serves one connection until it ends."""

    def __init__(self, websocket: web.WebSocketResponse, transport: asyncio.Transport, exchange: Exchange) -> None:
        self.number = 0
        self.hung = False
        self._websocket = websocket
        self._transport = transport
        self._exchange = exchange
        self._subscriptions: dict[str, int] = {}
        self._outbox: asyncio.Queue[str] = asyncio.Queue(_OUTBOX)
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._limit = CallLimit(exchange.config.request_rate, exchange.config.request_burst)
        self._last_sent = self._last_received = exchange.clock()
        self._instruments = False

    @property
    def subscriptions(self) -> Mapping[str, int]:
        """The interval in minutes by symbol."""
        return self._subscriptions

    @property
    def follows_instruments(self) -> bool:
        """Whether it subscribed to the list of pairs."""
        return self._instruments

    def send_data(self, text: str) -> None:
        """Send a frame that was not asked for; it is lost while the connection is silent."""
        if self._exchange.is_silent(self):
            self._exchange.stats.data_frames_lost += 1
        else:
            self._send(text)

    def end(self, how: Ending) -> None:
        """End the connection."""
        if not self._ending.done():
            self._ending.set_result(how)

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._exchange.connect(self)
        how = Ending.SHUTDOWN
        try:
            self._send(frames.status(self._exchange.faults.system, connection_id(self._seed, self.number)))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(), name=f"session-{self.number}-read")
                tasks.create_task(self._write(), name=f"session-{self.number}-write")
                tasks.create_task(self._await_end(), name=f"session-{self.number}-end")
        except* _EndedError as group:
            how = next(error.how for error in _leaves(group) if isinstance(error, _EndedError))
        finally:
            self._exchange.disconnect(self)
        await self._close(how)

    @property
    def _seed(self) -> int:
        return self._exchange.config.seed

    # -- the wire --------------------------------------------------------------------------------------------------

    def _send(self, text: str) -> None:
        try:
            self._outbox.put_nowait(text)
        except asyncio.QueueFull:
            self.end(Ending.SLOW)

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
            elif message.type is WSMsgType.TEXT:
                self._last_received = self._exchange.clock()
                await self._on_request(message.data)

    async def _write(self) -> None:
        while True:
            due = self._last_sent + _HEARTBEAT_SECONDS - self._exchange.clock()
            try:
                async with asyncio.timeout(min(_LOOK_SECONDS, max(0.01, due))):
                    text = await self._outbox.get()
            except TimeoutError:
                self._on_quiet()
                continue
            if self.hung:
                continue
            try:
                await self._websocket.send_str(text)
            except (ConnectionError, RuntimeError) as error:
                raise _EndedError(Ending.CLIENT) from error
            self._last_sent = self._exchange.clock()
            self._exchange.stats.frames_sent += 1

    def _on_quiet(self) -> None:
        now = self._exchange.clock()
        if not self._subscriptions and not self._instruments:
            if now - self._last_received >= self._exchange.config.idle_seconds and not self.hung:
                self.end(Ending.IDLE)
        elif now - self._last_sent >= _HEARTBEAT_SECONDS and not self._exchange.is_silent(self):
            self._last_sent = now
            self._exchange.stats.heartbeats_sent += 1
            self._send(frames.HEARTBEAT)

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
        elif how is Ending.SHUTDOWN:
            await self._websocket.close(code=1001, message=b"going away")
        else:
            await self._websocket.close()

    # -- requests --------------------------------------------------------------------------------------------------

    async def _on_request(self, text: str) -> None:
        exchange = self._exchange
        exchange.stats.websocket_requests += 1
        if exchange.faults.on("msg_rate") or not self._limit.allows("", exchange.clock()):
            self._send(frames.RATE_EXCEEDED)
            return
        received = exchange.now()
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self._refuse("Malformed request", None, None, received)
            return
        method, req_id = request.get("method"), request.get("req_id")
        req_id = req_id if isinstance(req_id, int) and not isinstance(req_id, bool) else None
        params = request.get("params")
        params = params if isinstance(params, dict) else {}
        if method == "ping":
            if not exchange.is_silent(self):
                self._send(frames.pong(req_id, received, exchange.now()))
        elif method in ("subscribe", "unsubscribe"):
            await self._on_subscription(method, params, req_id, received)
        else:
            self._refuse("Unsupported event", method if isinstance(method, str) else None, req_id, received)

    def _refuse(self, text: str, method: str | None, req_id: int | None, received: int, symbol: object = None) -> None:
        out = self._exchange.now()
        self._send(frames.error(text, method, symbol=symbol, req_id=req_id, time_in=received, time_out=out))

    async def _on_subscription(self, method: str, params: dict[str, Any], req_id: int | None, received: int) -> None:
        channel = params.get("channel")
        if channel == "instrument":
            self._on_instrument(method, params, req_id, received)
        elif channel in _PRIVATE:
            text = "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com"
            self._refuse(text, method, req_id, received)
        elif channel != "ohlc":
            self._refuse("Unsupported event", method, req_id, received)
        elif not isinstance(symbols := params.get("symbol"), list) or not symbols:
            self._refuse("Malformed request", method, req_id, received)
        else:
            for symbol in symbols:
                await asyncio.sleep(0)  # a snapshot takes milliseconds to fold: let the other connections go on
                problem = self._problem(symbol, params.get("interval"))
                if problem is not None:
                    self._refuse(problem, method, req_id, received, symbol)
                elif method == "subscribe":
                    self._subscribe(symbol, params, req_id, received)
                else:
                    self._unsubscribe(symbol, params["interval"], req_id, received)

    def _problem(self, symbol: object, interval: object) -> str | None:
        if not isinstance(symbol, str) or "/" not in symbol or "*" in symbol:
            return f"Currency pair not in ISO 4217-A3 format {symbol}"
        if not self._exchange.is_listed(symbol):
            return f"Currency pair not supported {symbol}"
        if not isinstance(interval, int) or isinstance(interval, bool):
            return "Subscription ohlc interval must be an integer"
        return None if interval in INTERVALS else "Subscription ohlc interval not supported"

    def _subscribe(self, symbol: str, params: dict[str, Any], req_id: int | None, received: int) -> None:
        interval, snapshot = params["interval"], params.get("snapshot") is not False
        if symbol in self._subscriptions:
            same = self._subscriptions[symbol] == interval
            text = "Already subscribed" if same else "Already subscribed to one ohlc interval on this symbol"
            self._refuse(text, "subscribe", req_id, received, symbol)
            return
        self._subscriptions[symbol] = interval
        self._exchange.subscribe(self, symbol, interval)
        out = self._exchange.now()
        self._send(
            frames.ohlc_subscribed(symbol, interval, snapshot=snapshot, req_id=req_id, time_in=received, time_out=out)
        )
        if snapshot:
            self._exchange.send_snapshot(self, symbol, interval)

    def _unsubscribe(self, symbol: str, interval: int, req_id: int | None, received: int) -> None:
        if self._subscriptions.get(symbol) != interval:
            self._refuse("Subscription Not Found", "unsubscribe", req_id, received, symbol)
            return
        del self._subscriptions[symbol]
        self._exchange.unsubscribe(self, symbol, interval)
        out = self._exchange.now()
        self._send(frames.ohlc_unsubscribed(symbol, interval, req_id=req_id, time_in=received, time_out=out))

    def _on_instrument(self, method: str, params: dict[str, Any], req_id: int | None, received: int) -> None:
        exchange = self._exchange
        subscribing = method == "subscribe"
        if subscribing == self._instruments:
            text = "Already subscribed" if subscribing else "Subscription Not Found"
            self._refuse(text, method, req_id, received)
            return
        self._instruments = subscribing
        snapshot = params.get("snapshot") is not False if subscribing else None
        self._send(
            frames.channel_acked(
                method, "instrument", snapshot=snapshot, req_id=req_id, time_in=received, time_out=exchange.now()
            )
        )
        if snapshot:
            pairs = (market.pair for market in exchange.listed.values())
            self.send_data(frames.instrument_snapshot(pairs, exchange.faults.system))


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return leaves
