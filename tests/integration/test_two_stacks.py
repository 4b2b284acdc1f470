"""Two stacks on one broker: each has a topic prefix of its own, or the second one does not start."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from memory_broker import MemoryBroker, MemoryBus
from prometheus_client import CollectorRegistry

from admin_api import AdminSettings
from admin_api.app import AdminApi
from command import Running, program
from influx_writer import Writer
from ingress_common.errors import SettingsError
from ingress_common.service import Service
from ingress_common.topics import Topics
from ingress_store import SqliteStore
from servers import free_port
from waiting import until

pytestmark = pytest.mark.timeout(180)


async def is_ready(port: int) -> bool:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        try:
            return (await http.get("/health/ready")).status_code == 200
        except httpx.TransportError:
            return False


async def test_a_stack_with_another_store_is_refused_under_the_same_prefix_and_served_under_its_own(
    mosquitto_of, tmp_path: Path
):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    ports = [free_port(), free_port()]
    settings = {"MQTT_URL": mosquitto_of("allow_anonymous true\n").url}
    one = {**settings, "STORE_URL": "sqlite:///one.db", "INSTANCE_ID": "one", "HTTP_PORT": str(ports[0])}
    two = {**settings, "STORE_URL": "sqlite:///two.db", "INSTANCE_ID": "two", "HTTP_PORT": str(ports[1])}
    async with Running("one", "admin_api", folder=first, **one) as running:
        await until(lambda: is_ready(ports[0]), 60, running.output)
        refused = program("admin_api", folder=second, **two)
        assert refused.returncode == 2
        (line,) = [text for text in refused.stderr.splitlines() if text.startswith("admin-api: ")]
        assert line.startswith(
            "admin-api: INGRESS_TOPIC_PREFIX: expected a prefix of its own for every stack, got 'ingress'"
        )
        async with Running("two", "admin_api", folder=second, **two, INGRESS_TOPIC_PREFIX="other") as other:
            await until(lambda: is_ready(ports[1]), 60, other.output)
            assert await is_ready(ports[0])


def admin(broker: MemoryBroker, folder: Path) -> Service:
    settings = AdminSettings(
        _env_file=None, store_url=f"sqlite:////{folder}/candles.db", instance_id=folder.name, http_port=0
    )
    return AdminApi(
        settings,
        bus=MemoryBus(broker, client_id=folder.name),
        dead_letter_bus=MemoryBus(broker, client_id=f"{folder.name}-letters"),
        store=settings.store(),
        registry=CollectorRegistry(),
        started_at=1_700_000_000.0,
    )


def writer(broker: MemoryBroker, folder: Path) -> Service:
    return Writer(
        bus=MemoryBus(broker, client_id=folder.name, session_expiry=60, inbound_limit=4_000),
        control=MemoryBus(broker, client_id=f"{folder.name}-control"),
        store=SqliteStore(folder / "candles.db"),
        topics=Topics(),
        instance=folder.name,
        registry=CollectorRegistry(),
        started_at=1_700_000_000.0,
    )


@pytest.mark.parametrize("build", [admin, writer])
async def test_of_two_stacks_unaware_of_each_other_one_continues(tmp_path: Path, build):
    # The services without what awaits a free prefix before they connect.
    broker = MemoryBroker()
    tasks = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        tasks.append(asyncio.create_task(build(broker, tmp_path / name).run()))
    first, second = tasks
    try:
        await asyncio.wait([second], timeout=30)
        assert second.done()
        (error,) = leaves(second.exception())
        assert isinstance(error, SettingsError)
        assert str(error).startswith("INGRESS_TOPIC_PREFIX: expected a prefix of its own for every stack")
        assert not first.done()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def leaves(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [] if error is None else [error]


async def test_of_two_stacks_started_at_one_moment_one_continues(mosquitto_of, tmp_path: Path):
    url = mosquitto_of("allow_anonymous true\n").url
    async with AsyncExitStack() as stack:
        both = []
        for name in ("one", "two"):
            # The path in STORE_URL is the same, and from each stack's own folder.
            folder = tmp_path / name
            folder.mkdir()
            settings = {"MQTT_URL": url, "STORE_URL": "sqlite:///candles.db", "INSTANCE_ID": name, "HTTP_PORT": "0"}
            both.append(await stack.enter_async_context(Running(name, "influx_writer", folder=folder, **settings)))
        ends = [asyncio.create_task(running.process.wait()) for running in both]
        done, going = await asyncio.wait(ends, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done), len(going)) == (1, 1), [running.output() for running in both]
        loser = both[ends.index(done.pop())]
        assert loser.process.returncode == 2
        assert "INGRESS_TOPIC_PREFIX: expected a prefix of its own for every stack" in loser.output()
        # The other one lives on for longer than the two took to see each other.
        winner = going.pop()
        await asyncio.wait([winner], timeout=8)
        assert not winner.done()
        winner.cancel()
