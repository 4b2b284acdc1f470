"""Two stacks under one topic prefix: the second one is refused, whatever its instances are called."""

import asyncio
from typing import Any

import pytest
from memory_broker import MemoryBroker, MemoryBus

from ingress_common.errors import SettingsError
from ingress_common.model import InstanceState, Status
from ingress_common.payloads import encode_status
from ingress_common.prefix import STORE, PrefixGuard, await_own_prefix
from ingress_common.topics import Topics
from waiting import until

TOPICS = Topics()
OURS, THEIRS = "sqlite:///ours.db", "influxdb://theirs:8086 org"
SECONDS = {"retained_seconds": 0.05, "stale_seconds": 0.3}


async def claim(broker: MemoryBroker) -> None:
    async with MemoryBus(broker, client_id="claim") as bus:
        await await_own_prefix(bus, TOPICS, "admin-api", OURS, **SECONDS)


async def is_free(broker: MemoryBroker) -> bool:
    """Whether no other stack has the prefix."""
    try:
        await claim(broker)
    except SettingsError:
        return False
    return True


async def publish(bus: MemoryBus, store: str, state: InstanceState = InstanceState.ONLINE) -> None:
    status = Status("admin-api", "another-name", state, "1", 0.0, {STORE: store})
    await (await bus.publish(TOPICS.status("admin-api", "another-name"), encode_status(status), qos=1, retain=True))


async def repeated(bus: MemoryBus, store: str, claiming: asyncio.Task[Any]) -> None:
    """Publish a living instance's status over and over, until the claim has ended."""

    async def ended() -> bool:
        await publish(bus, store)
        return claiming.done()

    await until(ended)


async def test_prefix_of_a_stack_with_another_store_is_refused():
    broker = MemoryBroker()
    async with MemoryBus(broker, client_id="other") as other:
        await publish(other, THEIRS)
        claiming = asyncio.create_task(claim(broker))
        await repeated(other, THEIRS, claiming)
        with pytest.raises(SettingsError, match=r"INGRESS_TOPIC_PREFIX.*'another-name' uses for the store influxdb"):
            await claiming


@pytest.mark.parametrize("state", [InstanceState.ONLINE, InstanceState.OFFLINE])
async def test_stale_or_offline_status_does_not_count_as_a_stack(state):
    broker = MemoryBroker()
    async with MemoryBus(broker, client_id="other") as other:
        await publish(other, THEIRS, state)
        assert await is_free(broker)


async def test_more_instances_of_one_stack_share_its_prefix():
    broker = MemoryBroker()
    async with MemoryBus(broker, client_id="other") as other:
        await publish(other, OURS)
        claiming = asyncio.create_task(is_free(broker))
        await repeated(other, OURS, claiming)
        assert await claiming


async def test_malformed_status_does_not_count_as_a_stack():
    broker = MemoryBroker()
    async with MemoryBus(broker, client_id="other") as other:
        await (await other.publish(TOPICS.status("admin-api", "x"), b"{", qos=1, retain=True))
        assert await is_free(broker)


def online(started_at: float, store: str, service: str = "admin-api") -> Status:
    return Status(service, "another-name", InstanceState.ONLINE, "1", started_at, {STORE: store})


@pytest.mark.parametrize("seconds_apart", [0.0, 5.0, -5.0, 3600.0])
def test_of_two_stacks_started_together_exactly_one_continues(seconds_apart):
    starts = {OURS: 10_000.0, THEIRS: 10_000.0 + seconds_apart}
    gone = []
    for mine, other in ((OURS, THEIRS), (THEIRS, OURS)):
        try:
            PrefixGuard(TOPICS, "admin-api", starts[mine], mine).received(online(starts[other], other))
        except SettingsError:
            gone.append(mine)
    assert len(gone) == 1
    if seconds_apart > 300:
        assert gone == [THEIRS], "the one that has run for long stays"


def test_other_services_and_instances_of_our_stack_do_not_count():
    guard = PrefixGuard(TOPICS, "admin-api", 10_000.0, THEIRS)
    guard.received(online(0.0, THEIRS))
    guard.received(online(0.0, OURS, "influx-writer"))
    guard.received(Status("admin-api", "another-name", InstanceState.OFFLINE, "1", 0.0, {STORE: OURS}))
    guard.received(Status("admin-api", "another-name", InstanceState.ONLINE, "1", 0.0, {}))
    with pytest.raises(SettingsError, match="another-name"):
        guard.received(online(0.0, OURS))
