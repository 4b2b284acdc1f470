"""`crypto-ingress replay`: an archive file through broker, aggregator and writer gives the rows of `rollup`.

The slice goes over the end of a week, so that every timeframe closes; 44 % of its minutes have trades.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from command import Running, crypto_ingress
from crypto_ingress import store_commands
from crypto_ingress.history.commands import Export
from crypto_ingress.history.exporting import FileFormat, NumberType
from crypto_ingress.settings import RunSettings
from ingress_common.bus import Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.payloads import decode_candle
from ingress_common.settings import load_settings
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.topics import Topics
from proxy import CuttableProxy

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "archive" / "XBTUSDC_1.csv"
SYMBOL = "BTC/USDC"
FIRST = 1_672_876_800 - 18 * 3600
END = 1_672_876_800 + 33 * 3600
TOPICS = Topics()
# To write its whole database after every message, as tests of restarts want it, would be most of the time here.
MOSQUITTO = "allow_anonymous true\nautosave_on_changes false\n"
MOSQUITTO_DEFAULTS = f"{MOSQUITTO}max_queued_messages 1000\nmax_inflight_messages 20\n"

Rows = dict[Timeframe, list[str]]


def real_archive() -> Path:
    if not ARCHIVE.exists():
        pytest.skip(f"no real archive file: expected {ARCHIVE.name} in ../shared/data/archive")
    return ARCHIVE


def rows_of(folder: Path) -> Rows:
    """The rows with the numbers that they tell: zeros at the end of a decimal say nothing."""
    return {
        timeframe: [plain_row(line) for line in (folder / f"{timeframe.value}.csv").read_text().splitlines()]
        for timeframe in TIMEFRAMES
    }


def plain_row(line: str) -> str:
    return line if line.startswith("t") else ",".join(f"{Decimal(field).normalize():f}" for field in line.split(","))


@pytest.fixture(scope="module")
def slice_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("slice") / "minutes.csv"
    lines = [line for line in real_archive().read_text().splitlines() if FIRST <= int(line.split(",")[0]) < END]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def expected(slice_file) -> Rows:
    folder = slice_file.parent / "rollup"
    assert (
        crypto_ingress("rollup", slice_file, "--symbol", SYMBOL, "--out", folder, folder=slice_file.parent).returncode
        == 0
    )
    return rows_of(folder)


def store_in(folder: Path) -> str:
    return f"sqlite:///{folder}/candles.db"


async def assert_exported(folder: Path, expected: Rows, store: str | None = None) -> None:
    """`export` gives the rows of `rollup`."""
    settings = load_settings(RunSettings, store_url=store or store_in(folder))
    for timeframe in TIMEFRAMES:
        out = folder / "export" / f"{timeframe.value}.csv"
        wanted = Export((SYMBOL,), (timeframe,), None, None, out, FileFormat.CSV, NumberType.FLOAT)
        await store_commands.export(settings, wanted, lambda *_: None)
    assert rows_of(folder / "export") == expected


def over(expected: Rows) -> Rows:
    """Without the last interval of a timeframe where the file ends inside it: that is still forming."""
    end = int(expected[Timeframe.M1][-1].split(",")[0]) + 60
    return {
        timeframe: [row for row in rows if row[0] == "t" or int(row.split(",")[0]) + timeframe.seconds <= end]
        for timeframe, rows in expected.items()
    }


@asynccontextmanager
async def replaying(folder: Path, file: Path, *options: str, **settings: str) -> AsyncIterator[Running]:
    arguments = ("crypto_ingress", "replay", file, "--symbol", SYMBOL, *options)
    async with Running("replay", *arguments, folder=folder, **{"STORE_URL": store_in(folder), **settings}) as replay:
        yield replay


def service(module: str, folder: Path, url: str, **settings: str) -> Running:
    settings = {"MQTT_URL": url, "STORE_URL": store_in(folder), "HTTP_PORT": "0", **settings}
    return Running(module, module, folder=folder, **settings)


@asynccontextmanager
async def watching(url: str) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
    """Waits until the candle of the minute at this share of the slice has been published."""
    async with MqttBus(url, client_id="watch") as bus:
        await bus.subscribe(TOPICS.candles(SYMBOL, Timeframe.M1))
        events = bus.events()

        async def until(share: float) -> None:
            async with asyncio.timeout(100):
                async for event in events:
                    if isinstance(event, Message):
                        event.ack()
                        candle = decode_candle(event.payload)
                        if candle.closed and candle.open_time >= FIRST + share * (END - FIRST):
                            return

        yield until


async def ended_well(replay: Running) -> None:
    assert await replay.ended(200) == 0, replay.output()


# --- as it is ---------------------------------------------------------------------------------------------------------


async def test_replay_on_the_embedded_broker_stores_what_rollup_gives(tmp_path, slice_file, expected):
    async with replaying(tmp_path, slice_file) as replay:
        await ended_well(replay)
    await assert_exported(tmp_path, over(expected))


@pytest.mark.parametrize("configuration", [MOSQUITTO, MOSQUITTO_DEFAULTS], ids=["ours", "default"])
async def test_replay_on_mosquitto_stores_what_rollup_gives(
    tmp_path, slice_file, expected, mosquitto_of, configuration
):
    broker = mosquitto_of(configuration)
    async with replaying(tmp_path, slice_file, MQTT_URL=broker.url) as replay:
        await ended_well(replay)
    await assert_exported(tmp_path, over(expected))


async def test_second_replay_on_the_same_broker_fills_another_store(tmp_path, slice_file, expected, mosquitto_of):
    broker = mosquitto_of(MOSQUITTO)
    for name in ("first", "second"):
        store = f"sqlite:///{tmp_path}/{name}.db"
        async with replaying(tmp_path, slice_file, MQTT_URL=broker.url, STORE_URL=store) as replay:
            await ended_well(replay)
        await assert_exported(tmp_path, over(expected), store)


async def test_import_stores_what_rollup_gives(tmp_path, slice_file, expected):
    done = crypto_ingress("import", slice_file, "--symbol", SYMBOL, folder=tmp_path, STORE_URL=store_in(tmp_path))
    assert done.returncode == 0, done.stderr
    await assert_exported(tmp_path, expected)


# --- and with what goes wrong ----------------------------------------------------------------------------------------


@asynccontextmanager
async def repeating(url: str, *filters: str) -> AsyncIterator[list[int]]:
    """Publishes every message of `filters` a second time, and counts them."""
    async with MqttBus(url, client_id="repeat", inbound_limit=5000) as bus, asyncio.TaskGroup() as tasks:
        await bus.subscribe(*filters, no_local=True)
        count = [0]

        async def repeat() -> None:
            async for event in bus.events():
                if isinstance(event, Message):
                    if not event.retain:
                        count[0] += 1
                        await bus.publish(event.topic, event.payload)
                    event.ack()

        repeater = tasks.create_task(repeat())
        yield count
        repeater.cancel()


@pytest.mark.parametrize(
    "filters",
    [(TOPICS.raw("+"), TOPICS.history("+", "+")), ("ingress/+/kraken/#",)],
    ids=["ticks-and-history", "everything"],
)
async def test_messages_that_arrive_twice_change_nothing(tmp_path, slice_file, expected, mosquitto_of, filters):
    broker = mosquitto_of(MOSQUITTO)
    async with (
        repeating(broker.url, *filters) as repeated,
        replaying(tmp_path, slice_file, MQTT_URL=broker.url) as replay,
    ):
        await ended_well(replay)
    assert repeated[0] > 900
    await assert_exported(tmp_path, over(expected))


async def test_cut_connections_of_all_parts_change_nothing(tmp_path, slice_file, expected, mosquitto_of):
    broker = mosquitto_of(MOSQUITTO)
    async with (
        watching(broker.url) as until,
        CuttableProxy("127.0.0.1", broker.port) as proxy,
        replaying(tmp_path, slice_file, MQTT_URL=f"mqtt://127.0.0.1:{proxy.port}") as replay,
    ):
        for share in (0.2, 0.5, 0.8):
            await until(share)
            proxy.cut()
        await ended_well(replay)
    await assert_exported(tmp_path, over(expected))


@asynccontextmanager
async def services_on(broker: Any, folder: Path) -> AsyncIterator[tuple[Running, Running]]:
    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(service("influx_writer", folder, broker.url))
        aggregator = await stack.enter_async_context(service("aggregator", folder, broker.url))
        yield writer, aggregator


async def test_cut_connection_of_the_feed_changes_nothing(tmp_path, slice_file, expected, mosquitto_of):
    broker = mosquitto_of(MOSQUITTO)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(services_on(broker, tmp_path))
        until = await stack.enter_async_context(watching(broker.url))
        proxy = await stack.enter_async_context(CuttableProxy("127.0.0.1", broker.port))
        settings = {"MQTT_URL": f"mqtt://127.0.0.1:{proxy.port}"}
        replay = await stack.enter_async_context(replaying(tmp_path, slice_file, "--no-services", **settings))
        for share in (0.2, 0.5, 0.8):
            await until(share)
            proxy.cut()
        await ended_well(replay)
    await assert_exported(tmp_path, over(expected))


async def test_killed_aggregator_and_its_successor_leave_no_trace(tmp_path, slice_file, expected, mosquitto_of):
    broker = mosquitto_of(MOSQUITTO)
    async with AsyncExitStack() as stack:
        _, aggregator = await stack.enter_async_context(services_on(broker, tmp_path))
        until = await stack.enter_async_context(watching(broker.url))
        replay = await stack.enter_async_context(replaying(tmp_path, slice_file, "--no-services", MQTT_URL=broker.url))
        for share in (0.2, 0.3, 0.6, 0.9):  # the week ends at 0.35, when one has just died
            await until(share)
            await aggregator.kill()
            aggregator = await stack.enter_async_context(service("aggregator", tmp_path, broker.url))
        await ended_well(replay)
    await assert_exported(tmp_path, over(expected))


@pytest.mark.parametrize("configuration", [MOSQUITTO, MOSQUITTO_DEFAULTS], ids=["ours", "default"])
async def test_killed_writer_and_its_successor_leave_no_trace(
    tmp_path, slice_file, expected, mosquitto_of, configuration
):
    broker = mosquitto_of(configuration)
    async with AsyncExitStack() as stack:
        writer, _ = await stack.enter_async_context(services_on(broker, tmp_path))
        until = await stack.enter_async_context(watching(broker.url))
        replay = await stack.enter_async_context(replaying(tmp_path, slice_file, "--no-services", MQTT_URL=broker.url))
        await until(0.2)
        await writer.kill()
        await stack.enter_async_context(service("influx_writer", tmp_path, broker.url))
        await ended_well(replay)
    await assert_exported(tmp_path, over(expected))
