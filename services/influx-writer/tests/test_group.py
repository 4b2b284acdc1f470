"""Several writers: one that goes leaves nothing behind that nobody takes."""

import asyncio
import sqlite3

from influx_writer import Limits
from influx_writer.writer import client_id, shared_filters
from ingress_common.model import Presence, Status
from ingress_common.payloads import decode_status, encode_status


async def test_what_waits_for_a_writer_that_does_not_come_back_is_stored_by_another(world, candle):
    gone, _ = world.writer("gone")
    async with world.running(gone):
        pass
    await world.send(*(candle(-n) for n in range(1, 301)))
    assert await world.stored() == []
    heir, _ = world.writer("heir")
    async with world.running(heir):
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle") == 300)
        await world.until(lambda: _status_of(world, "gone") is None)
        await world.send(candle())
        await world.until(lambda: _outstanding(world) == 0)
        assert not _shares(world, "gone")
    assert len(await world.stored()) == 300


async def test_a_writer_that_leaves_others_behind_takes_its_subscription_along(world, candle):
    first, _ = world.writer("first")
    second, _ = world.writer("second")
    async with world.running(first):
        async with world.running(second):
            await world.until(lambda: _online(world, "first") and _online(world, "second"))
            await world.send(*(candle(-n) for n in range(1, 101)))
        assert not _shares(world, "second")
        assert _shares(world, "first")
    assert len(await world.stored()) == 100


async def test_of_writers_that_leave_at_once_one_stays_subscribed(world):
    writers = [world.writer(f"w{n}")[0] for n in range(4)]
    tasks = [asyncio.create_task(writer.run()) for writer in writers]
    await world.until(lambda: all(_online(world, f"w{n}") for n in range(4)))
    await world.until(lambda: all(writer.health().ready for writer in writers))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert sum(_shares(world, f"w{n}") for n in range(4)) == 1


async def test_a_writer_that_comes_back_has_its_session_again(world, candle):
    absent, _ = world.writer("absent")
    async with world.running(absent):
        pass
    await world.send(*(candle(-n) for n in range(1, 1_001)))
    heir, _ = world.writer("heir")
    async with world.running(heir):
        # The heir cannot finish, because nothing can be written.
        lock = sqlite3.connect(world.path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        await world.until(lambda: not _shares(world, "absent"))
        world.path = world.path.with_name("other.db")
        back, _ = world.writer("absent")
        task = asyncio.create_task(back.run())
        await world.until(lambda: _shares(world, "absent") and _online(world, "absent"))
        lock.execute("ROLLBACK")
        lock.close()
        await world.until(lambda: _outstanding(world) == 0)
        assert _shares(world, "absent")
        task.cancel()
        await asyncio.wait([task])
    assert len(await world.stored()) == 1_000


async def test_what_waits_for_one_that_a_killed_broker_still_calls_online_is_stored_by_another(world, candle):
    dead, _ = world.writer("dead")
    async with world.running(dead):
        await world.until(lambda: _online(world, "dead"))
        said = world.broker.retained[world.topics.status("influx-writer", "dead")]
    await world.client.publish(world.topics.status("influx-writer", "dead"), said, retain=True)
    await world.send(*(candle(-n) for n in range(1, 301)))
    heir, _ = world.writer("heir", Limits(seconds=0.05, adopt_seconds=0.2, silent_seconds=0.5))
    async with world.running(heir):
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle") == 300)
        await world.until(lambda: _status_of(world, "dead") is None)
        assert not _shares(world, "dead")
    assert len(await world.stored()) == 300


async def test_a_writer_that_says_that_it_is_there_is_left_alone(world, candle):
    limits = Limits(seconds=0.05, adopt_seconds=0.2, silent_seconds=7)
    quiet, bus = world.writer("quiet", limits)
    other, _ = world.writer("other", limits)
    async with world.running(quiet), world.running(other):
        await world.until(lambda: _online(world, "quiet") and _online(world, "other"))
        await world.send(*(candle(-n) for n in range(1, 101)))
        await world.until(lambda: _outstanding(world) == 0)
        assert bus.connected
        assert _shares(world, "quiet")
        assert _shares(world, "other")


async def test_made_up_and_contradicting_statuses_do_no_harm(world, candle):
    heir, _ = world.writer("heir")
    real, _ = world.writer("real")
    async with world.running(real):
        pass
    async with world.running(heir):
        await world.until(lambda: _status_of(world, "real") is None)
        status = encode_status(Status("influx-writer", "heir", Presence.OFFLINE, "1", world.now))
        for number in range(50):
            await world.client.publish(world.topics.status("influx-writer", f"fake-{number}"), status)
        await world.client.publish(world.topics.status("influx-writer", "broken"), b"{")
        for number in range(50):
            made_up = Status("influx-writer", f"made-up-{number}", Presence.OFFLINE, "1", world.now)
            await world.client.publish(
                world.topics.status("influx-writer", f"made-up-{number}"), encode_status(made_up), retain=True
            )
        await world.until(lambda: not any("made-up" in topic for topic in world.broker.retained))
        await world.send(candle())
        await world.until(lambda: _outstanding(world) == 0)
    assert len(await world.stored()) == 1


def _status_of(world, instance):
    payload = world.broker.retained.get(world.topics.status("influx-writer", instance))
    return decode_status(payload) if payload else None


def _online(world, instance):
    status = _status_of(world, instance)
    return status is not None and status.state.value == "online"


def _shares(world, instance):
    """Whether the broker gives `instance` a share, present or not."""
    state = world.broker._clients.get(client_id(instance))
    return state is not None and set(shared_filters(world.topics)) <= state.filters.keys()


def _outstanding(world):
    """Messages that the broker still keeps for writers."""
    states = [state for name, state in world.broker._clients.items() if name.startswith("influx-writer")]
    return sum(len(state.queued) + len(state.unacknowledged) for state in states)
