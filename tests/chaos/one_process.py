"""`crypto-ingress run` under faults: everything in one process, on its embedded broker and a SQLite file."""

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.clocks import Clocks
from chaos.form import End, SkippedError
from chaos.judge import StoredRow
from chaos.kraken import Kraken, markets
from chaos.script import ONE_PROCESS, Fault
from command import COMMAND, environment
from servers import await_port, free_port

_STOP_SECONDS = 20
_BROKER = re.compile(rb"candles on (mqtt://[\w.:-]+)")


class OneProcessForm:
    """The command line as a child process, and the simulator as another; their files are in `folder`."""

    def __init__(
        self, folder: Path, *, symbols: int, seed: int, activity: float, connection_limit: int, clocks: bool
    ) -> None:
        self._folder = folder
        self._store = folder / "store.db"
        self._log = folder / "crypto-ingress.log"
        self._said_before = 0
        self._ports = free_port(), free_port()
        self._settings = {
            "SIM_SYMBOLS": markets(symbols),
            "SIM_SEED": str(seed),
            "SIM_ACTIVITY": str(activity),
            "SIM_CONNECTION_LIMIT": str(connection_limit),
        }
        self._clocks = Clocks(folder / "clocks", (ONE_PROCESS,)) if clocks else None
        self._simulator: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False
        self._deaths = 0
        self.kraken = Kraken(f"http://127.0.0.1:{self._ports[1]}")

    async def __aenter__(self) -> Self:
        """Start the simulator, and then the command."""
        try:
            await asyncio.to_thread(self._start_simulator)
            self._start()
            self._nurse = asyncio.create_task(self._keep_running(), name="chaos.nurse")
        except BaseException:
            self._end_all()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End both."""
        self._nurse.cancel()
        await asyncio.wait([self._nurse])
        await self.kraken.close()
        await asyncio.to_thread(self._end_all)

    def _start_simulator(self) -> None:
        port, control = self._ports
        options = ["--port", str(port), "--control-port", str(control)]
        self._simulator = _child(
            [sys.executable, "-m", "kraken_simulator", *options], self._folder / "kraken-simulator.log", self._settings
        )
        await_port(control, lambda: self._simulator.poll() is None, self._folder / "kraken-simulator.log")

    def _start(self) -> None:
        port, _ = self._ports
        settings = {
            "SYMBOLS": "*",
            "KRAKEN_WS_URL": f"ws://127.0.0.1:{port}/v2",
            "KRAKEN_REST_URL": f"http://127.0.0.1:{port}",
            "STORE_URL": f"sqlite:///{self._store}",
            "HTTP_PORT": str(free_port()),
            "LOG_LEVEL": "info",
            "LOG_FORMAT": "json",
            "INSTANCE_ID": "chaos",
            "PYTHONUNBUFFERED": "1",
        }
        if self._clocks is not None:
            settings |= self._clocks.environment(ONE_PROCESS)
        self._said_before = self._log.stat().st_size if self._log.exists() else 0
        self._wanted = True
        self._process = _child([*COMMAND, "run"], self._log, settings)

    async def _keep_running(self) -> None:
        """Restart it when it has ended by itself, as a service manager does."""
        while True:
            await asyncio.sleep(1)
            if self._wanted and self._process is not None and self._process.poll() is not None:
                self._deaths += 1
                self._start()

    def _end_all(self) -> None:
        self._wanted = False
        for process in (self._process, self._simulator):
            if process is not None:
                _end(process)

    def broker_url(self) -> str | None:
        """The broker's URL that the command has printed; None before that."""
        if self._process is None or self._process.poll() is not None:
            return None
        with self._log.open("rb") as log:
            log.seek(self._said_before)
            found = _BROKER.search(log.read(1_000_000))
        return found.group(1).decode() if found else None

    # --- faults

    async def begin(self, fault: Fault) -> End:
        """Make a fault of the process."""
        match fault.kind:
            case "kill":
                return await self._end_process(signal.SIGKILL)
            case "stop":
                return await self._end_process(signal.SIGTERM)
            case "freeze":
                return self._freeze()
            case "lock":
                return await self._lock()
            case "clock":
                return self._jump(fault)
        raise SkippedError(f"nothing makes {fault.kind} in this form")

    async def _end_process(self, number: signal.Signals) -> End:
        process = self._process
        self._wanted = False
        if process is not None and process.poll() is None:
            process.send_signal(number)
            await asyncio.to_thread(_end, process)

        async def start() -> None:
            if not self._wanted:
                self._start()

        return start

    def _freeze(self) -> End:
        # With the broker, which is a child of it.
        group = self._process.pid
        _signal_group(group, signal.SIGSTOP)

        async def go_on() -> None:
            _signal_group(group, signal.SIGCONT)

        return go_on

    async def _lock(self) -> End:
        """Lock the SQLite file, as another writing program does."""
        connection = sqlite3.connect(self._store, timeout=10, isolation_level=None, check_same_thread=False)
        try:
            await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            connection.close()
            raise SkippedError(f"the store cannot be locked: {error}") from None

        async def unlock() -> None:
            connection.execute("ROLLBACK")
            connection.close()

        return unlock

    def _jump(self, fault: Fault) -> End:
        clocks = self._clocks
        if clocks is None:
            raise SkippedError("this run was started without clocks that jump")
        clocks.set(ONE_PROCESS, fault.offset)

        async def back() -> None:
            clocks.set(ONE_PROCESS, 0)

        return back

    # --- what is there

    async def newest_closed(self) -> dict[str, int]:
        """From the file, which other processes may read at any time."""
        query = "SELECT symbol, max(open_time) FROM candles WHERE timeframe = '1m' AND closed GROUP BY symbol"
        return dict(await asyncio.to_thread(self._select, query))

    async def rows(self, timeframe: str) -> list[StoredRow]:
        """Every row of the timeframe."""
        query = f"SELECT {', '.join(_COLUMNS)} FROM candles WHERE timeframe = ?"
        return [_row(row, timeframe) for row in await asyncio.to_thread(self._select, query, (timeframe,))]

    def _select(self, query: str, parameters: Sequence[str] = ()) -> list[tuple]:
        try:
            with closing(sqlite3.connect(f"file:{self._store}?mode=ro", uri=True, timeout=5)) as connection:
                return connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise OSError(f"the store does not respond: {error}") from error

    async def deaths(self) -> int:
        """How often the process has ended by itself."""
        return self._deaths

    async def save_logs(self, folder: Path) -> None:
        """Do nothing: the logs are files in the folder already."""


_COLUMNS = (
    *("symbol", "open_time", "open", "high", "low", "close", "volume", "vwap", "trades"),
    *("closed", "infilled", "complete", "revision", "source", "at", "exchange"),
)


def _row(row: tuple, timeframe: str) -> StoredRow:
    values = dict(zip(_COLUMNS, row, strict=True))
    exchange = values.pop("exchange")
    for name in ("open", "high", "low", "close", "volume", "vwap"):
        values[name] = Decimal(values[name])
    for name in ("closed", "infilled", "complete"):
        values[name] = bool(values[name])
    values["at"] = f"{datetime.fromtimestamp(values['at'], UTC):%T.%f}"
    return StoredRow(timeframe=timeframe, series=f"exchange={exchange}", **values)


def _child(command: Sequence[str], log: Path, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a child with all that it has started."""
    _signal_group(process.pid, signal.SIGCONT)
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_SECONDS)
    deadline = time.monotonic() + 2
    while _signal_group(process.pid, 0) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal_group(process.pid, signal.SIGKILL)


def _signal_group(group: int, number: int) -> bool:
    """Signal a process with its children; whether anyone was there."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)
        return True
    return False
