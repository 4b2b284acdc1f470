"""The whole simulator: markets, two ports, and the trading task."""

import asyncio
import logging
import socket
import time
from types import TracebackType
from typing import Self

from aiohttp import web

from kraken_simulator.clock import Clock
from kraken_simulator.config import SimulatorConfig
from kraken_simulator.control import ControlServer
from kraken_simulator.errors import SimulatorError, SourceError
from kraken_simulator.exchange import Exchange
from kraken_simulator.listeners import Ending
from kraken_simulator.market import Market
from kraken_simulator.pace import factor_for
from kraken_simulator.profiles import DEFAULT_PROFILES, Profile, default_profiles, profile_of, tokenized_profiles
from kraken_simulator.server import ExchangeServer
from kraken_simulator.sources.archive import archive_source
from kraken_simulator.sources.port import TradeSource
from kraken_simulator.sources.recorded import recorded_source
from kraken_simulator.sources.synthetic import SyntheticSource, full_history, light_history, sparse_history, usual_rate
from kraken_simulator.stats import Stats

_LOG = logging.getLogger("kraken_simulator")
_FULL_HISTORY_SYMBOLS = 20
_LIGHT_HISTORY_SYMBOLS = 400
_FULL_HISTORY_WEEKS = 720
_SHORT_HISTORY_WEEKS = 12
_SHUTDOWN_SECONDS = 1.0


class Simulator:
    """A simulated Kraken to start and stop, or to use as an async context manager.

    The constructor does no I/O; `start` raises SimulatorError if the simulator cannot start.
    """

    def __init__(self, config: SimulatorConfig | None = None, *, clock: Clock = time.time) -> None:
        self.config = config or SimulatorConfig()
        self._clock = clock
        self._profiles = _profiles(self.config)
        self._exchange: Exchange | None = None
        self._runners: list[web.AppRunner] = []
        self._port = self.config.port
        self._control_port = self.config.control_port
        self._task: asyncio.Task[None] | None = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """The pairs that trade."""
        files = (*self.config.archives, *self.config.trades)
        synthetic = (profile.pair.symbol for profile in self._profiles)
        return tuple(dict.fromkeys((*synthetic, *files)))

    @property
    def ws_url(self) -> str:
        """The URL of WebSocket v2; with port 0 valid after the start."""
        return f"ws://{self._address}:{self._port}/v2"

    @property
    def rest_url(self) -> str:
        """The base URL of REST, without the path `/0/public`."""
        return f"http://{self._address}:{self._port}"

    @property
    def control_url(self) -> str:
        """The URL of the control port."""
        return f"http://{self._address}:{self._control_port}"

    @property
    def exchange(self) -> Exchange:
        """The running exchange, for tests in the same process."""
        if self._exchange is None:
            message = "the simulator is not started"
            raise SimulatorError(message)
        return self._exchange

    @property
    def _address(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.config.host, self.config.host)  # noqa: S104 (compared)
        return f"[{host}]" if ":" in host else host

    async def start(self) -> None:
        """Load the sources, create the past, open both ports and begin to trade. SimulatorError on failure."""
        if self._task is not None:
            message = "the simulator is started already"
            raise SimulatorError(message)
        sockets = _listen(self.config.host, self.config.port), _listen(self.config.host, self.config.control_port)
        try:
            self._port, self._control_port = (listening.getsockname()[1] for listening in sockets)
            self._exchange = await asyncio.to_thread(self._open_exchange)
            server = ExchangeServer(self._exchange)
            control = ControlServer(self._exchange, server.attempt_limit)
            for listening, application in zip(sockets, (server.application(), control.application()), strict=True):
                runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
                self._runners.append(runner)
                await runner.setup()
                await web.SockSite(runner, listening).start()
        except BaseException:
            for listening in sockets:
                listening.close()
            await self._close_ports()
            raise
        self._task = asyncio.create_task(self._trade(self._exchange), name="simulator")
        _LOG.info("simulator.started ws=%s rest=%s control=%s", self.ws_url, self.rest_url, self.control_url)

    def _open_exchange(self) -> Exchange:
        exchange = Exchange(_markets(self.config, self._profiles, self._clock()), self.config, self._clock, Stats())
        exchange.open_for_trading(past_at_once=len(exchange.markets) <= _FULL_HISTORY_SYMBOLS)
        return exchange

    async def _trade(self, exchange: Exchange) -> None:
        try:
            while True:
                exchange.step()
                await asyncio.sleep(self.config.poll_seconds)
        except Exception:
            _LOG.exception("simulator.failed")
            raise

    async def wait(self) -> None:
        """Wait until the simulator stops; raises the error that stopped it."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Close all connections and both ports; does nothing if not started."""
        task, self._task = self._task, None
        if self._exchange is not None:
            for listener in tuple(self._exchange.listeners):
                listener.hung = False
                listener.end(Ending.SHUTDOWN)
        await self._close_ports()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            _LOG.info("simulator.stopped")
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _close_ports(self) -> None:
        runners, self._runners = self._runners, []
        async with asyncio.TaskGroup() as tasks:
            for runner in runners:
                tasks.create_task(runner.cleanup(), name="simulator-close")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _profiles(config: SimulatorConfig) -> tuple[Profile, ...]:
    return _named_profiles(config) + tokenized_profiles(config.tokenized)


def _named_profiles(config: SimulatorConfig) -> tuple[Profile, ...]:
    if config.symbols is None:
        return DEFAULT_PROFILES
    if isinstance(config.symbols, int):
        return default_profiles(config.symbols)
    return tuple(profile_of(symbol) for symbol in config.symbols)


def _markets(config: SimulatorConfig, profiles: tuple[Profile, ...], now: float) -> dict[str, Market]:
    many = len(profiles) > _FULL_HISTORY_SYMBOLS
    weeks = config.history_weeks or (_SHORT_HISTORY_WEEKS if many else _FULL_HISTORY_WEEKS)
    history = full_history(weeks)
    if many:
        history = sparse_history(weeks) if len(profiles) > _LIGHT_HISTORY_SYMBOLS else light_history(weeks)
    epoch = int(config.epoch if config.epoch is not None else now)
    file_weeks = config.history_weeks or _SHORT_HISTORY_WEEKS
    pace = config.activity
    if config.rate is not None:
        pace = factor_for(config.rate, [usual_rate(profile) for profile in profiles], config.poll_seconds)
    sources: dict[str, TradeSource] = {}
    for profile in profiles:
        symbol = profile.pair.symbol
        if symbol not in config.archives and symbol not in config.trades:
            sources[symbol] = SyntheticSource(profile, seed=config.seed, epoch=epoch, history=history, pace=pace)
    for symbol, path in config.archives.items():
        sources[symbol] = archive_source(symbol, path, now=now, play_from=config.play_from, history_weeks=file_weeks)
    for symbol, path in config.trades.items():
        sources[symbol] = recorded_source(symbol, path, now=now, play_from=config.play_from)
    if not sources:
        message = "symbols: expected at least one pair or file, was none"
        raise SourceError(message)
    return {symbol: Market(source) for symbol, source in sources.items()}


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1_024)
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise SimulatorError(message) from error
