"""From tick to row: aggregator and writer as processes, beside a subscriber that only appends rows."""

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

from bench import scripted_gateway
from bench.candle_feed import minutes_of, symbols, windows_closed, windows_closed_count
from bench.figure import Definition, Group, Outcome, paired
from bench.market import closed_candles
from bench.plain_subscriber import COMMIT_SECONDS
from bench.processes import Child, broker, cpu_seconds, module
from bench.rounds import in_turn
from ingress_common.model import Candle
from ingress_common.topics import Topics
from servers import MqttServer

_SYMBOLS = 50
_MINUTES = 60
_NAMES = symbols(_SYMBOLS)
_PLAIN = Topics("bench")
_SECONDS = 20.0
_LATENCY_SECONDS = 8.0
_STORED_SECONDS = 60.0
_LOOK_SECONDS = 0.005
_FOREVER = "1m=forever,5m=forever,15m=forever,1h=forever,ticks=forever"


class _Path(Protocol):
    """A path from the bus into a file: its processes, and a way to send it minutes."""

    def send(self, first: int, end: int) -> None:
        """Publish the minutes number `first` up to `end` and wait until the broker has them."""
        ...

    def cpu(self) -> float:
        """Seconds of CPU of its processes so far."""
        ...

    def stored(self, first: int, end: int) -> int:
        """Closed candles of these minutes that are in the file."""
        ...


class _Services:
    """The path of aggregator and writer, fed with ticks and watermarks."""

    def __init__(self, stack: ExitStack, server: MqttServer, folder: Path) -> None:
        self._url = server.url
        file = folder / "candles.db"
        common = {"MQTT_URL": server.url, "INSTANCE_ID": "bench", "HTTP_PORT": "0", "LOG_LEVEL": "warning"}
        store = {"STORE_URL": f"sqlite:///{file}", "RETENTION": _FOREVER}
        self._children = [
            stack.enter_context(Child(module("influx_writer"), folder, **common, **store)),
            stack.enter_context(Child(module("aggregator"), folder, **common)),
        ]
        asyncio.run(scripted_gateway.seed(server.url, _NAMES))
        self._database = stack.enter_context(closing(sqlite3.connect(file)))

    def send(self, first: int, end: int) -> None:
        asyncio.run(scripted_gateway.play(self._url, minutes_of(_NAMES, first, end)))

    def cpu(self) -> float:
        return sum(cpu_seconds(child.pid) for child in self._children)

    def stored(self, first: int, end: int) -> int:
        query = "SELECT count(*) FROM candles WHERE closed AND timeframe = ? AND open_time >= ? AND open_time < ?"
        return sum(
            self._database.execute(query, (timeframe.value, start, last)).fetchone()[0]
            for timeframe, start, last in windows_closed(first, end)
        )


class _Subscriber:
    """The path of the plain subscriber, fed with as many closed candles."""

    def __init__(self, stack: ExitStack, server: MqttServer, folder: Path) -> None:
        self._url = server.url
        file = folder / "rows.db"
        command = module("bench.plain_subscriber", "127.0.0.1", server.port, _PLAIN.candles("+", "+"), file)
        self._child = stack.enter_context(Child(command))
        self._child.expect("ready")
        self._database = stack.enter_context(closing(sqlite3.connect(file)))
        self._before = 0

    def send(self, first: int, end: int) -> None:
        self._before = self._rows()
        asyncio.run(self._publish(closed_candles(_NAMES, windows_closed(first, end))))

    async def _publish(self, candles: Sequence[Candle]) -> None:
        async with scripted_gateway.bus(self._url) as client:
            await scripted_gateway.publish_candles(client, _PLAIN, candles)

    def cpu(self) -> float:
        return cpu_seconds(self._child.pid)

    def stored(self, first: int, end: int) -> int:
        return self._rows() - self._before

    def _rows(self) -> int:
        return self._database.execute("SELECT count(*) FROM rows").fetchone()[0]


class _Rounds:
    """Rounds of one path; each takes the next minutes."""

    def __init__(self, path: _Path) -> None:
        self._path = path
        self._next = 0

    def cost(self) -> float:
        """Microseconds of CPU per stored closed candle, with minutes at full speed."""
        spent = self._path.cpu()
        stored = self._send(_MINUTES)
        return (self._path.cpu() - spent) / stored * 1e6

    def latency(self) -> float:
        """Seconds from the sending of a single minute to its last row."""
        start = time.monotonic()
        self._send(1)
        return time.monotonic() - start

    def _send(self, minutes: int) -> int:
        first, self._next = self._next, self._next + minutes
        self._path.send(first, self._next)
        return self._await_stored(first, self._next)

    def _await_stored(self, first: int, end: int) -> int:
        expected = windows_closed_count(first, end) * _SYMBOLS
        deadline = time.monotonic() + _STORED_SECONDS
        while (stored := self._path.stored(first, end)) < expected:
            if time.monotonic() > deadline:
                raise AssertionError(f"expected {expected} rows within {_STORED_SECONDS:.0f} s, got {stored}")
            time.sleep(_LOOK_SECONDS)
        return expected


def _measure() -> Mapping[str, Outcome]:
    with broker() as server, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ours = _Rounds(_Services(stack, server, Path(folder)))
        theirs = _Rounds(_Subscriber(stack, server, Path(folder)))
        # The first round also stores the seeds' candles.
        ours.cost()
        costs = in_turn(ours.cost, theirs.cost, _SECONDS)
        latencies = in_turn(ours.latency, theirs.latency, _LATENCY_SECONDS)
        return {
            _CPU: paired(
                costs.ours, costs.theirs, f"{min(costs.ours):.0f} us a candle beside {min(costs.theirs):.0f} us a row"
            ),
            _LATENCY: paired(
                latencies.ours,
                latencies.theirs,
                f"{_milliseconds(latencies.ours):.0f} ms beside {_milliseconds(latencies.theirs):.0f} ms",
            ),
        }


def _milliseconds(latencies: Sequence[float]) -> float:
    return statistics.median(latencies) * 1000


_CPU, _LATENCY = "whole path, CPU", "whole path, latency"

GROUPS = (
    Group(
        (
            Definition(
                _CPU,
                f"CPU of aggregator and influx-writer together a stored closed candle, ticks of {_SYMBOLS} symbols and "
                "watermarks in, rows in SQLite out (the ticks' as well), divided by the CPU a row of a plain "
                "subscriber (paho-mqtt, json, SQLite) that gets the closed candles ready-made.",
            ),
            Definition(
                _LATENCY,
                "Time from the sending of one minute to its last row, divided by that of the plain subscriber. Both "
                f"commit about every {COMMIT_SECONDS} s, and that is nearly all of it.",
            ),
        ),
        _measure,
    ),
)
