"""A backlog in Mosquitto, written to InfluxDB by our writer and by Telegraf."""

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.candle_feed import symbols
from bench.consumers import Consumer, telegraf, writer
from bench.figure import Definition, Group, Measurement, Outcome, at_most, paired
from bench.influx_points import InfluxPoints
from bench.market import closed_minutes
from bench.processes import broker, cpu_seconds, influxdb, peak_mebibytes
from bench.scripted_gateway import announce, bus, publish_candles
from ingress_common.model import Candle
from ingress_common.topics import Topics

_SYMBOLS = 100
_MINUTES = 600
_CANDLES = _SYMBOLS * _MINUTES
_PAIRS = 3
_SECONDS = 300.0
_REPEAT_SECONDS = 0.5
_MEBIBYTES = 90.0


@dataclass(frozen=True)
class _Run:
    """The cost of one run: seconds, CPU seconds, MiB."""

    wall: float
    cpu: float
    influxd: float
    memory: float


def _measure() -> Mapping[str, Outcome]:
    # The peer first, because it may not be installed.
    pairs = [(_run(telegraf), _run(writer)) for _ in range(_PAIRS)]
    theirs, ours = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {
        _CPU: paired(
            [run.cpu for run in ours],
            [run.cpu for run in theirs],
            f"{_a_candle(ours):.0f} us a candle beside {_a_candle(theirs):.0f} us",
        ),
        _WALL: paired(
            [run.wall for run in ours],
            [run.wall for run in theirs],
            f"{min(run.wall for run in ours):.1f} s beside {min(run.wall for run in theirs):.1f} s",
        ),
        _INFLUXD: paired(
            [run.influxd for run in ours],
            [run.influxd for run in theirs],
            f"{min(run.influxd for run in ours):.1f} s of CPU beside {min(run.influxd for run in theirs):.1f} s",
        ),
        _MEMORY: Measurement(
            tuple(run.memory / _MEBIBYTES for run in ours),
            f"{max(run.memory for run in ours):.0f} MiB beside {max(run.memory for run in theirs):.0f} MiB of Telegraf",
        ),
    }


def _a_candle(runs: Sequence[_Run]) -> float:
    return min(run.cpu for run in runs) / _CANDLES * 1e6


def _run(consumer: Consumer) -> _Run:
    """Queue the candles at the broker, then let `consumer` write them to InfluxDB."""
    with (
        tempfile.TemporaryDirectory() as folder,
        broker() as mqtt,
        influxdb() as server,
        InfluxPoints(server) as influx,
    ):
        minutes = closed_minutes(symbols(_SYMBOLS), _MINUTES + 1, time.time())
        first, waiting = minutes[:_SYMBOLS], minutes[_SYMBOLS:]
        with consumer(mqtt.url, influx, Path(folder)):
            asyncio.run(_subscribed(mqtt.url, influx, first))
        asyncio.run(_publish(mqtt.url, waiting))
        before, spent = influx.written(), cpu_seconds(server.pid)
        start = time.monotonic()
        with consumer(mqtt.url, influx, Path(folder)) as child:
            influx.await_written(before + _CANDLES, _SECONDS)
            wall = time.monotonic() - start
            run = _Run(wall, cpu_seconds(child.pid), cpu_seconds(server.pid) - spent, peak_mebibytes(child.pid))
            influx.await_rows("candles_1m", len(minutes))
        return run


async def _subscribed(url: str, influx: InfluxPoints, candles: Sequence[Candle]) -> None:
    """Publish a candle of each symbol, over and over, until all are written: so all are subscribed to."""
    async with bus(url) as client:
        await announce(client, [candle.symbol for candle in candles])
        async with asyncio.timeout(_SECONDS):
            while influx.rows("candles_1m") < len(candles):
                await publish_candles(client, Topics(), candles)
                await asyncio.sleep(_REPEAT_SECONDS)


async def _publish(url: str, candles: Sequence[Candle]) -> None:
    async with bus(url) as client:
        await publish_candles(client, Topics(), candles)


_CPU, _WALL, _INFLUXD, _MEMORY = (
    f"backlog, {what}" for what in ("CPU a candle", "wall time", "CPU of influxd", "memory of the writer")
)
_BACKLOG = f"{_CANDLES:,} closed candles of {_SYMBOLS} symbols that wait in Mosquitto's persistent session"

GROUPS = (
    Group(
        (
            Definition(
                _CPU,
                f"CPU of influx-writer for {_BACKLOG}, from its start until InfluxDB has them, divided by that of "
                "Telegraf with the same tags and fields (but `at`).",
                at_most(1),
            ),
            Definition(_WALL, "Time from the start of the process until InfluxDB has them, divided alike.", at_most(1)),
            Definition(_INFLUXD, "CPU of influxd in that time, divided alike.", at_most(1.3)),
            Definition(
                _MEMORY,
                f"The most resident memory of influx-writer meanwhile, divided by {_MEBIBYTES:.0f} MiB.",
                at_most(1),
            ),
        ),
        _measure,
    ),
)
