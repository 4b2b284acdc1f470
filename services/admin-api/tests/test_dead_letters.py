"""Dead letters: kept, listed, re-sent, dropped."""

import pytest

from ingress_common.bus import Message
from ingress_common.payloads import dead_letter, encode_dead_letter

TOKEN = {"Authorization": "Bearer s3cret-token"}


async def publish_dead_letter(
    world, topic="ingress/raw/kraken/BTC-USD/1m", payload=b"{}", service="aggregator", reason="a reason"
):
    letter = encode_dead_letter(dead_letter(topic, payload, reason, world.now))
    await world.send(world.topics.dead_letter(service), letter, retain=False)


async def listed(world, query=""):
    body = (await world.http.get(f"/dead-letters?{query}")).json()
    return body["dead_letters"]


async def until_kept(world, count):
    async def kept():
        return len(await listed(world)) == count

    await world.until(kept)


async def test_dead_letters_are_listed_newest_first_and_by_service(world):
    async with world.running():
        await publish_dead_letter(world, payload=b"one")
        await publish_dead_letter(world, payload=b"\xff", service="influx-writer")
        await until_kept(world, 2)
        newest, oldest = await listed(world)
        assert (newest["service"], newest["payload"]) == ("influx-writer", "base64:/w==")
        assert (oldest["payload"], oldest["reason"]) == ("one", "a reason")
        assert oldest["truncated"] is False
        assert [letter["payload"] for letter in await listed(world, "service=aggregator")] == ["one"]
        assert len(await listed(world, "limit=1")) == 1


@pytest.mark.parametrize("payload", [b'{"candle": 1}', b"\xff\x00"])
async def test_resent_dead_letter_is_published_unchanged_and_dropped(world, payload):
    topic = world.topics.raw("BTC/USD")
    async with world.running() as http:
        await publish_dead_letter(world, topic, payload)
        await until_kept(world, 1)
        await world.client.subscribe(topic)
        (letter,) = await listed(world)
        answer = await http.post(f"/dead-letters/{letter['id']}/resend", headers=TOKEN)
        assert answer.status_code == 200
        async for event in world.client.events():
            if isinstance(event, Message):
                assert (event.topic, event.payload, event.qos, event.retain) == (topic, payload, 1, False)
                event.ack()
                break
        assert await listed(world) == []
        assert (await http.post(f"/dead-letters/{letter['id']}/resend", headers=TOKEN)).status_code == 404


@pytest.mark.parametrize(
    ("topic", "reason", "named"),
    [
        ("elsewhere/raw/kraken/BTC-USD/1m", "a reason", "under ingress/"),
        ("ingress/dead-letter/aggregator", "a reason", "expected a message of raw"),
        ("ingress/status/aggregator/i1", "a reason", "expected a message of raw"),
        ("ingress/raw/#", "a reason", "without wildcards"),
        ("ingress/raw/kraken/BTC-USD/1m", "bad (payload of 70000 bytes cut to 65536)", "whole message"),
    ],
)
async def test_dead_letter_that_cannot_be_resent_is_refused_and_kept(world, topic, reason, named):
    async with world.running() as http:
        await publish_dead_letter(world, topic, reason=reason)
        await until_kept(world, 1)
        (letter,) = await listed(world)
        assert letter["truncated"] is ("cut" in reason)
        answer = await http.post(f"/dead-letters/{letter['id']}/resend", headers=TOKEN)
        assert answer.status_code == 409
        assert named in answer.json()["detail"]
        assert len(await listed(world)) == 1


@pytest.mark.parametrize(
    ("service", "topic"),
    [
        ("kraken-gateway", "ingress/candles/kraken/BTC-USD/1m"),
        ("influx-writer", "ingress/history/kraken/BTC-USD/1m"),
        ("somebody", "ingress/raw/kraken/BTC-USD/1m"),
    ],
)
async def test_dead_letter_is_resent_only_on_topics_of_its_service(world, service, topic):
    async with world.running() as http:
        await publish_dead_letter(world, topic, service=service)
        await until_kept(world, 1)
        (letter,) = await listed(world)
        answer = await http.post(f"/dead-letters/{letter['id']}/resend", headers=TOKEN)
        assert answer.status_code == 409
        assert f"got one of {service} on" in answer.json()["detail"]


async def test_changing_a_dead_letter_needs_the_token_and_a_known_id(world):
    async with world.running() as http:
        await publish_dead_letter(world)
        await until_kept(world, 1)
        (letter,) = await listed(world)
        for method, path in (("POST", "/resend"), ("DELETE", "")):
            assert (await http.request(method, f"/dead-letters/{letter['id']}{path}")).status_code == 401
            assert (await http.request(method, f"/dead-letters/no-such{path}", headers=TOKEN)).status_code == 404
        assert (await http.delete(f"/dead-letters/{letter['id']}", headers=TOKEN)).status_code == 200
        assert await listed(world) == []


async def test_only_the_newest_are_kept_and_the_others_counted(world):
    async with world.running(dead_letters_kept=3) as http:
        for number in range(8):
            await publish_dead_letter(world, payload=str(number).encode())

        async def newest():
            return [letter["payload"] for letter in await listed(world)] == ["7", "6", "5"]

        await world.until(newest)
        text = (await http.get("/metrics")).text
        assert 'ingress_dead_letters_ended_total{how="pushed-out"} 5.0' in text
        assert "ingress_dead_letters_kept 3.0" in text


async def test_kept_old_dead_letter_does_not_block_new_ones(world):
    async with world.running(dead_letters_kept=5) as http:
        await publish_dead_letter(world, payload=b"old")
        for number in range(60):
            await publish_dead_letter(world, payload=str(number).encode())

            async def arrived(text=str(number)):
                return any(letter["payload"] == text for letter in await listed(world))

            await world.until(arrived)
            (letter,) = [letter for letter in await listed(world) if letter["payload"] == str(number)]
            assert (await http.delete(f"/dead-letters/{letter['id']}", headers=TOKEN)).status_code == 200


async def test_dead_letters_survive_a_restart_with_the_same_id(world):
    async with world.running():
        await publish_dead_letter(world, payload=b"one")
        await until_kept(world, 1)
        before = await listed(world)
    await publish_dead_letter(world, payload=b"two")
    async with world.running():
        await until_kept(world, 2)
        assert (await listed(world))[1:] == before


async def test_dropped_dead_letter_stays_dropped_after_a_reconnect(world):
    async with world.running() as http:
        for payload in (b"one", b"two", b"three"):
            await publish_dead_letter(world, payload=payload)
        await until_kept(world, 3)
        (_, two, _) = await listed(world)
        assert (await http.delete(f"/dead-letters/{two['id']}", headers=TOKEN)).status_code == 200
        world.dead_letter_bus.drop()
        await publish_dead_letter(world, payload=b"four")
        await until_kept(world, 3)
        assert [letter["payload"] for letter in await listed(world)] == ["four", "three", "one"]


async def test_malformed_dead_letter_is_counted_and_dropped(world):
    async with world.running() as http:
        await world.send(world.topics.dead_letter("aggregator"), b"nonsense", retain=False)
        await publish_dead_letter(world)
        await until_kept(world, 1)
        assert 'ingress_dead_letters_ended_total{how="undecodable"} 1.0' in (await http.get("/metrics")).text


async def test_dead_letter_is_kept_while_the_broker_is_disconnected(world):
    async with world.running() as http:
        await publish_dead_letter(world)
        await until_kept(world, 1)
        (letter,) = await listed(world)
        world.dead_letter_bus.drop(reconnect=False)
        assert (await http.post(f"/dead-letters/{letter['id']}/resend", headers=TOKEN)).status_code == 503
        assert len(await listed(world)) == 1
