"""GET /health: green when all is well, red with a reason when not."""

from dataclasses import replace

import pytest

from admin_api.system.health import task_trouble
from ingress_common.model import FeedCondition, Presence
from ingress_common.payloads import dead_letter, decode_dead_letter, encode_dead_letter
from ingress_store import TaskState


async def test_without_any_data_it_is_red(world):
    async with world.running():
        found = await world.until_failing("data", "feeds", "kraken-gateway", "aggregator", "influx-writer")
        assert "no instance has been seen" in found["aggregator"]


async def test_a_healthy_system_is_green_and_shows_everything(world, candle):
    async with world.running() as http:
        await world.healthy()
        await world.candle(candle())
        await world.until_failing()
        body = (await http.get("/health")).json()
        assert body["status"] == "ok"
        assert {i["service"] for i in body["instances"]} >= {"kraken-gateway", "aggregator", "influx-writer"}
        assert body["feeds"][0]["watermark_age_seconds"] == 1.0
        assert body["symbols"][0]["symbol"] == "BTC/USD"
        assert body["symbols"][0]["live"]


async def test_what_was_retained_before_it_started_is_seen(world, candle):
    await world.healthy()
    await world.candle(candle())
    async with world.running():
        await world.watermark()
        await world.until_failing()


async def test_a_watermark_that_stands_still_turns_it_red_after_ten_seconds_and_green_again(world):
    async with world.running():
        await world.healthy()
        await world.until_failing()
        world.now += 9
        await world.until_failing()
        world.now += 0.5
        found = await world.until_failing("feeds")
        assert "watermark 10 s old" in found["feeds"]
        await world.watermark()
        await world.until_failing()


async def test_a_feed_that_is_down_is_red_also_when_it_no_longer_names_its_symbols(world):
    async with world.running():
        await world.healthy()
        await world.feed("f2", ("ETH/USD",))
        await world.watermark("f2")
        await world.until_failing()
        await world.feed("f2", (), FeedCondition.DOWN)
        assert "f2: down" in (await world.until_failing("feeds"))["feeds"]


async def test_a_dead_feed_whose_symbols_another_one_carries_is_no_trouble(world):
    async with world.running():
        await world.healthy()
        await world.feed("f0", ("BTC/USD",), FeedCondition.DOWN)
        await world.until_failing()


async def test_a_symbol_that_no_live_feed_carries_is_named(world, candle):
    async with world.running():
        await world.healthy()
        await world.candle(candle(symbol="ADA/USD"))
        assert "ADA/USD" in (await world.until_failing("symbols"))["symbols"]


async def test_a_symbol_that_was_given_up_long_ago_is_no_trouble(world, candle):
    async with world.running():
        await world.healthy()
        await world.candle(candle(-2880, symbol="ADA/USD", at=world.now - 2 * 86400))
        await world.until(lambda: "ADA/USD" in world.service._view.symbols)
        await world.until_failing()


async def test_a_rejected_symbol_is_shown_beside_the_good_ones(world):
    async with world.running() as http:
        await world.healthy()
        await world.feed(rejected={"XBT/USD": "Currency pair not supported XBT/USD"})
        await world.until_failing()
        body = (await http.get("/health")).json()
        assert body["feeds"][0]["rejected"] == {"XBT/USD": "Currency pair not supported XBT/USD"}


async def test_candles_that_stop_while_the_feed_lives_are_red(world, candle):
    async with world.running():
        await world.healthy()
        await world.candle(candle())
        await world.until_failing()
        world.now += 170
        await world.services()
        await world.watermark()
        await world.until_failing()
        world.now += 15
        await world.watermark()
        assert "BTC/USD" in (await world.until_failing("candles"))["candles"]


@pytest.mark.parametrize("service", ["kraken-gateway", "aggregator", "influx-writer"])
async def test_a_service_without_an_online_instance_is_red(world, service):
    async with world.running():
        await world.healthy()
        await world.until_failing()
        await world.status(service, state=Presence.OFFLINE)
        await world.until_failing(service)
        await world.status(service, "i2")
        await world.until_failing()


async def test_an_instance_that_says_nothing_for_a_minute_is_not_online(world):
    async with world.running():
        await world.healthy()
        await world.until_failing()
        world.now += 59
        await world.watermark()
        await world.until_failing()
        world.now += 2
        await world.watermark()
        await world.until_failing("kraken-gateway", "aggregator", "influx-writer")


async def test_a_broker_that_is_away_is_red_and_not_ready(world):
    async with world.running() as http:
        await world.healthy()
        await world.until_failing()
        world.bus.drop(reconnect=False)
        await world.until_failing("broker")
        assert (await http.get("/health/ready")).status_code == 503
        assert (await http.get("/health/live")).status_code == 200
        world.bus.resume()
        await world.until_failing()
        assert (await http.get("/health/ready")).status_code == 200


async def test_a_store_that_is_away_is_red_and_not_ready(world):
    async with world.running() as http:
        await world.healthy()
        await world.until_failing()
        hidden = world.path.with_name("hidden.db")
        world.path.rename(hidden)
        await world.until_failing("store")
        assert (await http.get("/health/ready")).status_code == 503
        hidden.rename(world.path)
        await world.until_failing()


async def test_a_message_that_makes_no_sense_becomes_a_dead_letter_and_changes_nothing(world):
    await world.client.subscribe(world.topics.dead_letter("admin-api"))
    async with world.running() as http:
        await world.healthy()
        await world.send(world.topics.feed("f1"), b"{}")
        await world.send(world.topics.status("aggregator", "i1"), b"{}")
        await world.until_failing()
        topics = {world.topics.feed("f1"), world.topics.status("aggregator", "i1")}
        letters = []
        async for event in world.client.events():
            if hasattr(event, "payload"):
                letters.append(decode_dead_letter(event.payload))
                event.ack()
                if len(letters) == 2:
                    break
        assert {letter.topic for letter in letters} == topics

        async def shown():
            body = (await http.get("/health")).json()
            return [(entry["service"], entry["count"]) for entry in body["dead_letters"]] == [("admin-api", 2)]

        await world.until(shown)


async def test_dead_letters_of_others_are_counted(world):
    async with world.running() as http:
        letter = dead_letter("ingress/candles/x", b"\xff", "expected a candle", world.now)
        await world.send(world.topics.dead_letter("aggregator"), encode_dead_letter(letter), retain=False)
        await world.send(world.topics.dead_letter("aggregator"), b"not a letter", retain=False)

        async def shown():
            metrics = (await http.get("/metrics")).text
            return (
                'ingress_dead_letters_total{service="aggregator"} 1.0' in metrics
                and 'ingress_admin_rejected_total{reason="undecodable"} 1.0' in metrics
            )

        await world.until(shown)


async def test_an_emptied_topic_is_forgotten(world, candle):
    async with world.running() as http:
        await world.healthy()
        await world.feed("f2", ("ADA/USD",))
        await world.candle(candle(symbol="ADA/USD"))
        await world.until_failing("feeds", "symbols")
        await world.send(world.topics.feed("f2"), b"")
        await world.send(world.topics.candles("ADA/USD", "1m"), b"")
        await world.send(world.topics.status("aggregator", "i1"), b"")
        await world.until_failing("aggregator")
        assert [feed["feed"] for feed in (await http.get("/health")).json()["feeds"]] == ["f1"]


async def test_metrics_show_the_system(world, candle):
    async with world.running() as http:
        await world.healthy()
        await world.candle(candle())
        await world.until_failing()
        text = (await http.get("/metrics")).text
        assert 'ingress_health_check{check="feeds"} 1.0' in text
        assert 'ingress_watermark_age_seconds{feed="f1"} 1.0' in text
        assert 'ingress_instance_online{instance="i1",service="aggregator"} 1.0' in text
        assert 'ingress_symbol_age_seconds{symbol="BTC/USD"} 29.0' in text
        assert 'ingress_admin_requests_total{route="/health",status="200"}' in text


@pytest.mark.parametrize(
    ("changes", "trouble"),
    [
        ({}, None),
        ({"exists": False}, "is not there"),
        ({"active": False}, "is switched off"),
        ({"error": "could not find bucket"}, "failed: could not find bucket"),
        ({"last_run": 1000.0 - 300 - 15 - 121}, "is 1 s late"),
        ({"last_run": None}, None),
        ({"last_run": None, "since": 0.0}, "is 565 s late"),
    ],
)
def test_a_task_that_is_missing_off_failed_or_late_is_trouble(changes, trouble):
    state = TaskState("downsample_5m", 300, 15, exists=True, active=True, since=900.0, last_run=900.0)
    if changes.get("last_run"):
        changes = {**changes, "since": 0.0}
    assert task_trouble(replace(state, **changes), 1000.0) == trouble
