"""The implementation of the commands that run services or use a broker."""

import asyncio
import fcntl
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from rich.console import Console

from admin_api.app import build as build_admin_api
from aggregator.composition import build as build_aggregator
from crypto_ingress.archive import read_archive
from crypto_ingress.errors import CommandError
from crypto_ingress.live import LiveDisplay
from crypto_ingress.progress import ProgressReport
from crypto_ingress.replay import Replay
from crypto_ingress.settings import RunSettings
from crypto_ingress.stack import broker_for, serve
from crypto_ingress.store_commands import expect_kept
from influx_writer.composition import build as build_writer
from ingress_common.bus.check import check_broker
from ingress_common.model import Candle
from kraken_gateway.composition import build as build_gateway
from kraken_simulator import Simulator, read_config

_SERVICES = (build_writer, build_admin_api, build_aggregator, build_gateway)
_SESSION_SECONDS = 60


# --- run and demo -----------------------------------------------------------------------------------------------------


async def run(settings: RunSettings, console: Console) -> None:
    """Run all services on live Kraken until a signal."""
    await _run(settings, console, kraken=settings.kraken_ws_url)


async def demo(settings: RunSettings, console: Console) -> None:
    """Run all services on the simulator until a signal.

    The default store starts empty, because each simulation has its own past; a store that STORE_URL names is kept.
    """
    async with Simulator(read_config()) as simulator:
        with ExitStack() as stack:
            # After the simulator's start: a second demo fails there, on its ports, and must not empty the store.
            if "store_url" not in settings.model_fields_set:
                stack.enter_context(_empty_demo_store())
            simulated = settings.model_copy(
                update={"kraken_ws_url": simulator.ws_url, "kraken_rest_url": simulator.rest_url}
            )
            note = f"simulated Kraken, its faults and truth: {simulator.control_url}"
            await _run(simulated, console, note, kraken=None)


async def _run(settings: RunSettings, console: Console, *notes: str, kraken: str | None) -> None:
    stop = _stop_signals()
    async with broker_for(settings) as connector:
        where = (
            f"dashboard at http://{settings.http_host}:{settings.http_port}/, with /health and /candles; API at /docs",
            f"candles on {connector.url}, topic {settings.topics.candles('+', '+')}; store {settings.store_url}",
            *notes,
        )
        for line in where:
            console.print(line, highlight=False, soft_wrap=True)
        display = LiveDisplay(
            connector.open(f"{settings.topics.prefix}-live-{settings.instance_id}"), settings.topics, kraken, console
        )
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(serve(_SERVICES, settings, connector, stop), name="services")
            showing = tasks.create_task(display.run(), name="live")
            await asyncio.wait([serving])
            showing.cancel()
    console.print("stopped")


async def check_the_broker(settings: RunSettings, console: Console) -> None:
    """Check the broker of `settings` and print a line per test. CommandError if a test fails."""
    checks = await check_broker(settings.mqtt_url, settings.ingress_topic_prefix, settings.mqtt_client)
    for check in checks:
        mark = "lacking" if check.lacking else "ok"
        text = f"{mark:8}{check.what}{f': {check.lacking}' if check.lacking else ''}"
        console.print(text, highlight=False, soft_wrap=True, markup=False)
    failed = sum(check.lacking is not None for check in checks)
    if failed:
        raise CommandError(f"the broker at {settings.mqtt_url} fails {failed} of {len(checks)} tests")


# --- archive files ----------------------------------------------------------------------------------------------------


async def replay(
    settings: RunSettings, file: Path, symbol: str, speed: float | None, progress: ProgressReport, *, services: bool
) -> None:
    """Replay an archive file through broker, aggregator and writer into the store; without `services`, running ones."""
    if not services and not settings.external_broker:
        raise CommandError("--no-services requires MQTT_URL, the broker of the running services")
    candles = list(_minutes(file, symbol, lambda _done, _total: None))
    span = candles[-1].close_time - candles[0].open_time
    expect_kept(settings, candles[0].open_time)
    stop = _stop_signals()
    async with AsyncExitStack() as stack:
        connector = await stack.enter_async_context(broker_for(settings))
        store = await stack.enter_async_context(settings.store())
        if services:
            await store.bootstrap()
        player = Replay(
            # A session keeps candles while the connection is cut; the random id prevents reuse of an earlier session.
            connector.open(f"replay-{settings.instance_id}-{uuid4().hex[:8]}", session_expiry=_SESSION_SECONDS),
            settings.topics,
            store,
            symbol,
            candles,
            time.time,
            speed,
            lambda done: progress(done, span),
        )
        async with asyncio.TaskGroup() as tasks:
            builds = (build_writer, build_aggregator) if services else ()
            serving = tasks.create_task(serve(builds, settings, connector, stop))
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


# --- helpers ----------------------------------------------------------------------------------------------------------


def _minutes(file: Path, symbol: str, progress: ProgressReport) -> Iterator[Candle]:
    size = file.stat().st_size if file.is_file() else 0
    return read_archive(file, symbol, time.time(), lambda done: progress(done, size))


@contextmanager
def _empty_demo_store() -> Iterator[None]:
    """Empty the demo's store and lock it until the end. CommandError if another demo uses it."""
    folder = Path("data")
    folder.mkdir(exist_ok=True)
    with (folder / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                "another demo in this folder uses the store data/demo.db; "
                "set another one, such as STORE_URL=sqlite:///data/demo-2.db"
            ) from None
        for file in folder.glob("demo.db*"):
            file.unlink()
        yield


def _stop_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
