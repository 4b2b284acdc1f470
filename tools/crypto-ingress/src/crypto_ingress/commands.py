"""What the commands do."""

import asyncio
import fcntl
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from rich.console import Console

from crypto_ingress.archive import read_archive
from crypto_ingress.live import LiveView
from crypto_ingress.progress import Report
from crypto_ingress.replay import Replay
from crypto_ingress.rollup import roll_up_archive
from crypto_ingress.settings import RunSettings
from crypto_ingress.stack import Parts, broker_for, serve
from crypto_ingress.tables import candle_table
from influx_writer.writer import Limits
from ingress_common.model import Candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_store import CandleStore
from kraken_simulator import Simulator, read_config

_EXPORTED_AT_ONCE = 10_000
_SESSION_SECONDS = 60


class CommandError(Exception):
    """A command that cannot do what was asked; the text says why."""


# --- run and demo -----------------------------------------------------------------------------------------------------


async def run(settings: RunSettings, console: Console) -> None:
    """Live Kraken through all services, until a signal."""
    await _run(settings, console, kraken=settings.kraken_ws_url)


async def demo(settings: RunSettings, console: Console) -> None:
    """The simulator in Kraken's place.

    A store that was not asked for by name starts empty, because each simulation has a past of its own.
    """
    async with Simulator(read_config()) as simulator:
        with ExitStack() as stack:
            # Only now: a second demo ends at the simulator's ports.
            if "store_url" not in settings.model_fields_set:
                stack.enter_context(_empty_demo_store())
            simulated = settings.model_copy(
                update={"kraken_ws_url": simulator.ws_url, "kraken_rest_url": simulator.rest_url}
            )
            note = f"simulated Kraken, its faults and truth: {simulator.control_url}"
            await _run(simulated, console, note, kraken=None)


async def _run(settings: RunSettings, console: Console, *notes: str, kraken: str | None) -> None:
    stop = _stop_signals()
    async with broker_for(settings) as parts:
        where = (
            f"dashboard at http://{settings.http_host}:{settings.http_port}/, with /health and /candles; API at /docs",
            f"candles on {parts.broker}, topic {settings.topics.candles('+', '+')}; store {settings.store_url}",
            *notes,
        )
        for line in where:
            console.print(line, highlight=False, soft_wrap=True)
        view = LiveView(parts.bus(f"live-{settings.instance_id}"), settings.topics, kraken, console)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(
                serve((parts.writer, parts.admin_api, parts.aggregator, parts.gateway), stop), name="services"
            )
            showing = tasks.create_task(view.run(), name="live")
            await asyncio.wait([serving])
            showing.cancel()
    console.print("stopped")


# --- archive files ----------------------------------------------------------------------------------------------------


def rollup(file: Path, symbol: str, out: Path, progress: Report) -> None:
    """An archive file to one CSV file a timeframe in `out`. ArchiveError, OutputError."""
    with ExitStack() as tables:
        write = {tf: tables.enter_context(candle_table(out / f"{tf.value}.csv")) for tf in TIMEFRAMES}
        for candle in roll_up_archive(symbol, _minutes(file, symbol, progress)):
            write[candle.timeframe](candle)


async def replay(
    settings: RunSettings, file: Path, symbol: str, speed: float | None, progress: Report, *, services: bool
) -> None:
    """An archive file through broker, aggregator and writer into the store, or to those that already run."""
    if not services and not settings.external_broker:
        raise CommandError("--no-services needs MQTT_URL: the broker that the services are on")
    candles = list(_minutes(file, symbol, lambda _done, _total: None))
    span = candles[-1].close_time - candles[0].open_time
    _expect_kept(settings, candles[0].open_time)
    stop = _stop_signals()
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(broker_for(settings))
        store = await _opened(stack, parts)
        if services:
            await store.bootstrap()
        player = Replay(
            # A session, so that what comes back while the connection is cut is not lost; never that of an earlier run.
            parts.bus(f"replay-{settings.instance_id}-{uuid4().hex[:8]}", expiry=_SESSION_SECONDS),
            settings.topics,
            store,
            symbol,
            candles,
            time.time,
            speed,
            lambda done: progress(done, span),
        )
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(serve((parts.writer, parts.aggregator) if services else (), stop))
            playing = tasks.create_task(player.run(), name="replay")
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([playing, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopped = stop.is_set()
            playing.cancel()
            await asyncio.wait([playing])
            stop.set()
            stopping.cancel()
            await asyncio.wait([serving])
    if stopped:
        raise CommandError("stopped before the end of the file")


async def import_archive(settings: RunSettings, file: Path, symbol: str, progress: Report) -> None:
    """An archive file's candles of all timeframes into the store."""
    async with AsyncExitStack() as stack:
        store = await _opened(stack, Parts(settings, settings.mqtt_url, embedded=False))
        await store.bootstrap()
        batch: list[Candle] = []
        for candle in roll_up_archive(symbol, _minutes(file, symbol, progress)):
            batch.append(candle)
            if len(batch) == Limits().rows:
                await _write(store, batch)
                batch = []
        await _write(store, batch)


async def export(
    settings: RunSettings, symbol: str, timeframe: Timeframe, start: float | None, end: float | None, out: Path
) -> None:
    """Closed candles of the store to a CSV file; of a range without any, no more than the header.

    CommandError if the store is not there or knows nothing of the symbol.
    """
    _expect_there(settings.store_url)
    async with AsyncExitStack() as stack:
        store = await _opened(stack, Parts(settings, settings.mqtt_url, embedded=False))
        known = await store.symbols()
        if symbol not in known:
            raise CommandError(
                f"{store.location} has no candles of {symbol}, only of these symbols: {', '.join(known) or 'none'}"
            )
        with candle_table(out) as write:
            while candles := await store.candles(symbol, timeframe, start=start, end=end, limit=_EXPORTED_AT_ONCE):
                for candle in candles:
                    write(candle)
                start = candles[-1].close_time


# --- helpers ----------------------------------------------------------------------------------------------------------


def _minutes(file: Path, symbol: str, progress: Report) -> Iterator[Candle]:
    size = file.stat().st_size if file.is_file() else 0
    return read_archive(file, symbol, time.time(), lambda done: progress(done, size))


def _expect_kept(settings: RunSettings, first: int) -> None:
    """InfluxDB refuses what is older than its bucket keeps: better said before than after a file has been read."""
    if not settings.store_url.startswith("influxdb"):
        return
    age = time.time() - first
    short = [tf.value for tf, seconds in settings.retention.candles.items() if seconds is not None and seconds < age]
    if short:
        forever = ",".join(f"{name}=forever" for name in short)
        raise CommandError(
            f"RETENTION: InfluxDB would refuse candles of {rfc3339(first)}; expected {', '.join(short)} kept longer,"
            f" such as RETENTION={forever}, here and for admin-api"
        )


def _expect_there(store_url: str) -> None:
    """Opening a SQLite store makes its file, which is wrong for one that is to be read."""
    scheme, _, path = store_url.partition(":///")
    if scheme == "sqlite" and not Path(path).is_file():
        raise CommandError(f"STORE_URL: expected a store at {store_url}, got no such file")


async def _opened(stack: AsyncExitStack, parts: Parts) -> CandleStore:
    return await stack.enter_async_context(parts.store())


async def _write(store: CandleStore, candles: list[Candle]) -> None:
    result = await store.write(candles, [])
    if result.rejected_candles:
        first = result.rejected_candles[0]
        raise CommandError(f"the store refuses {len(result.rejected_candles)} candles: {first.reason}")


@contextmanager
def _empty_demo_store() -> Iterator[None]:
    """The demo's own store, empty, and nobody else's until this ends; CommandError if another demo has it."""
    folder = Path("data")
    folder.mkdir(exist_ok=True)
    with (folder / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                "another demo runs in this folder and has its store, data/demo.db; "
                "give this one another, such as STORE_URL=sqlite:///data/demo-2.db"
            ) from None
        for file in folder.glob("demo.db*"):
            file.unlink()
        yield


def _stop_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
