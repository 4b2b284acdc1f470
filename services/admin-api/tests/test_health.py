"""GET /health: green when all is well, red with a reason when not."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from admin_api.admin.checks import task_problem
from ingress_common.bus import Message
from ingress_common.model import FeedCondition, FeedState, InstanceState, Status, Watermark
from ingress_common.payloads import (
    dead_letter,
    decode_dead_letter,
    decode_republish_request,
    encode_dead_letter,
    encode_feed_state,
    encode_status,
    encode_watermark,
)
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_store import TaskState


async def test_deleted_resource_of_the_store_is_recreated(world):
    async with world.running() as http:
        await world.healthy()
        await world.until_failing()
        with closing(sqlite3.connect(world.path)) as connection:
            connection.execute("DROP INDEX ticks_by_age")

        async def complete():
            return (await http.get("/bootstrap")).json()["complete"]

        assert not await complete()
        await world.until(complete, 30)


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


async def test_retained_state_is_received_at_start(world, candle):
    await world.healthy()
    await world.candle(candle())
    async with world.running():
        await world.watermark()
        await world.until_failing()


async def test_a_worker_that_is_not_ready_is_red_with_its_reason(world):
    async with world.running():
        await world.healthy()
        await world.until_failing()
        await world.status("influx-writer", ready=False, problems=["store: the token may not write"])
        assert "the token may not write" in (await world.until_failing("influx-writer"))["influx-writer"]
        await world.status("influx-writer", ready=True, problems=[])
        await world.until_failing()
        await world.status("influx-writer", "i2", ready=False)
        assert "i2: not ready" in (await world.until_failing("influx-writer"))["influx-writer"]


async def test_wanted_symbol_is_red_until_live_seeded_and_stored(world, candle):
    wanted = {symbol: rfc3339(world.now) for symbol in ("BTC/USD", "ETH/USD")}
    async with world.running():
        await world.healthy()
        await world.status("kraken-gateway", owned_since=wanted)
        assert "ETH/USD" in (await world.until_failing("symbols", "seeds"))["symbols"]
        await world.feed("f2", ("ETH/USD",))
        await world.watermark("f2")
        lacking = ", ".join(timeframe.value for timeframe in TIMEFRAMES)
        assert f"ETH/USD ({lacking})" in (await world.until_failing("seeds"))["seeds"]
        for timeframe in TIMEFRAMES[:-1]:
            await world.candle(candle(symbol="ETH/USD", timeframe=timeframe))
            await world.store(candle(symbol="ETH/USD", timeframe=timeframe))
        assert "ETH/USD (1w)" in (await world.until_failing("seeds"))["seeds"]
        await world.candle(candle(0, symbol="ETH/USD", timeframe=Timeframe.W1, closed=False))
        await world.until_failing()


async def test_a_symbol_that_never_traded_is_named_and_not_red(world):
    async with world.running() as http:
        await world.healthy()
        await world.feed("f1", ("BTC/USD", "NEW/USD"))
        await world.status("aggregator", symbols=["BTC/USD", "NEW/USD"], initialized=1)
        await world.until_failing("seeds")
        await world.status("aggregator", symbols=["BTC/USD", "NEW/USD"], initialized=2)
        await world.until_failing()
        assert "never traded: NEW/USD" in (await http.get("/health")).text


async def test_a_pair_that_no_feed_carries_because_it_has_not_traded_yet_is_named_and_not_red(world):
    wanted = {symbol: rfc3339(world.now) for symbol in ("BTC/USD", "NEW/USD")}
    async with world.running() as http:
        await world.healthy()
        await world.status("kraken-gateway", owned_since=wanted, untraded=[])
        assert (await world.until_failing("symbols", "seeds"))["symbols"] == "no live feed carries NEW/USD"
        await world.status("kraken-gateway", owned_since=wanted, untraded=["NEW/USD"])
        await world.until_failing()
        assert "not traded yet: NEW/USD" in (await http.get("/health")).text


class Listing:
    """A gateway that took BTC/USD at its start, and NEW/USD later."""

    def __init__(self, world):
        self.world = world
        self.started = world.now

    async def publish(self, listed: float, **details) -> None:
        """Its status, and what a healthy system publishes beside it."""
        world = self.world
        owned = {"BTC/USD": rfc3339(self.started), "NEW/USD": rfc3339(listed)}
        status = Status("kraken-gateway", "i1", InstanceState.ONLINE, "0.1.0", self.started, {"owned_since": owned})
        status.details.update(details)
        await world.send(world.topics.status("kraken-gateway", "i1"), encode_status(status))
        await world.status("aggregator", symbols=["BTC/USD"])
        await world.status("influx-writer")
        await world.watermark()


async def test_newly_listed_pair_may_take_thirty_seconds_to_be_live_and_seeded(world, candle):
    async with world.running() as http:
        await world.healthy()
        await world.until_failing()
        gateway, world.now = Listing(world), world.now + 20
        listed = world.now
        await gateway.publish(listed)
        await world.until_failing()
        assert "new: NEW/USD" in (await http.get("/health")).text
        minute = candle(symbol="NEW/USD", open_time=Timeframe.M1.floor(listed) - 60, at=listed)
        await world.candle(minute)
        await world.store(minute)
        await world.until_failing()
        world.now = listed + 31
        await gateway.publish(listed)
        assert "NEW/USD" in (await world.until_failing("symbols", "seeds"))["symbols"]


async def test_newly_trading_pair_may_take_thirty_seconds_to_be_live_and_seeded(world):
    async with world.running() as http:
        await world.healthy()
        await world.until_failing()
        gateway = Listing(world)
        await gateway.publish(world.now, untraded=["NEW/USD"])
        await world.until_failing()
        assert "not traded yet: NEW/USD" in (await http.get("/health")).text
        world.now += 20
        begins = world.now
        await gateway.publish(gateway.started)
        await world.until_failing()
        assert "new: NEW/USD" in (await http.get("/health")).text
        world.now = begins + 31
        await gateway.publish(gateway.started)
        await world.until_failing("symbols", "seeds")


async def test_pair_of_a_gateways_start_or_takeover_is_not_new(world):
    async with world.running():
        await world.healthy()
        await world.until_failing()
        gateway = Listing(world)
        await gateway.publish(world.now + 4)
        await world.until_failing("symbols", "seeds")
        world.now += 20
        await gateway.publish(world.now)  # taken anew: it has been wanted for long
        await world.until_failing("symbols", "seeds")


async def test_a_gateway_whose_pairs_have_never_traded_needs_no_feed(world):
    async with world.running() as http:
        await world.services()
        since = {"NEW/USD": rfc3339(world.now)}
        await world.status("kraken-gateway", owned_since=since, untraded=[])
        await world.until_failing("data", "feeds", "symbols", "seeds")
        await world.status("kraken-gateway", owned_since=since, untraded=["NEW/USD"])
        await world.until_failing()
        assert "no pair has traded yet" in (await http.get("/health")).text


async def test_unstored_closed_candle_is_red_after_ten_seconds_and_republished(world, candle):
    await world.client.subscribe(world.topics.republish_requests())
    async with world.running():
        world.writer = {"symbols": ["BTC/USD"], "ready": True}
        await world.healthy()
        await world.until_failing()
        await world.wait(40)
        late = candle(0)
        await world.candle(late)
        await world.until(lambda: world.service.reconciler.stored.body().waiting)
        await world.until_failing()
        await world.wait(9)
        await world.until_failing()
        await world.wait(2)
        assert f"BTC/USD 1m {rfc3339(late.open_time)}" in (await world.until_failing("stored"))["stored"]
        async for event in world.client.events():
            if isinstance(event, Message):
                request = decode_republish_request(event.payload)
                assert (request.symbols, request.start) == (("BTC/USD",), late.at)
                break
        await world.store(late)
        await world.until_failing()


async def test_late_candles_are_requested_ever_more_rarely_for_ready_writers_only(world, candle):
    requests = []

    async def note(request):
        requests.append(world.now)

    async with world.running():
        await world.healthy()
        stored = world.service.reconciler.stored
        stored._republish = note
        await world.wait(40)
        await world.until(lambda: not stored.body().waiting)
        began = world.now
        await world.candle(candle(0))
        await world.until(lambda: stored.body().waiting)
        # An absent writer has its candles in the broker's queue; a writer that is not ready, too.
        for writer in ({}, {"symbols": ["BTC/USD"], "ready": False}, {"symbols": ["BTC/USD"], "ready": True}):
            assert requests == []
            world.writer = writer
            await world.services()
            await world.until(
                lambda w=writer: any(d == w for _, d in world.service.state.online("influx-writer", world.now))
            )
            for _ in range(12):
                await world.wait(5)
                await world.until(lambda: world.service.state.instances["influx-writer", "i1"].seen_at == world.now)
                await stored._request_late()
    assert [at - began for at in requests] == [125, 150, 175]


@pytest.mark.parametrize("cure", ["ready again", "another process"])
async def test_old_candles_are_requested_soon_after_the_writer_is_cured(world, candle, cure):
    requests = []

    async def note(request):
        requests.append(world.now)

    async def seen(**writer):
        def is_seen() -> bool:
            instance = world.service.state.instances["influx-writer", "i1"]
            return instance.seen_at == world.now and dict(instance.status.details) == writer

        world.writer = writer
        await world.services()
        await world.until(is_seen)
        await stored._request_late()

    ready = {"symbols": ["BTC/USD"], "ready": True}
    async with world.running():
        await world.healthy()
        stored = world.service.reconciler.stored
        stored._republish = note
        await world.wait(40)
        await world.candle(candle(0))
        await world.until(lambda: stored.body().waiting)
        world.now += 1300
        await seen(**ready)  # the bucket is missing still
        assert requests == [world.now]
        for _ in range(5):
            world.now += 5
            await seen(**ready)
        assert len(requests) == 1
        if cure == "ready again":
            await seen(**{**ready, "ready": False})
        else:
            await world.status("influx-writer", state=InstanceState.OFFLINE)
        world.now += 1
        await seen(**ready)
        assert requests[1:] == [world.now]
        for _ in range(6):
            # Requested every 15 s at most, however often it is cured.
            world.now += 2
            await seen(**{**ready, "ready": False})
            await seen(**ready)
        assert len(requests) == 2


async def test_a_store_that_is_always_one_candle_behind_is_red(world, candle):
    async with world.running():
        await world.healthy()
        await world.until_failing()
        await world.wait(40)
        await world.candle(candle(0))
        await world.until(lambda: world.service.reconciler.stored.body().waiting)
        await world.wait(60)
        await world.candle(candle(1))
        await world.until_failing("stored")


async def test_closed_candle_that_only_the_store_has_is_not_late(world, candle):
    """It was published while admin-api did not hear the broker; retained is the forming one after it."""
    async with world.running():
        await world.healthy()
        await world.until_failing()
        await world.wait(60)
        await world.wait(20)
        await world.forming(candle(2, closed=False))
        await world.wait(40)
        await world.until_failing("candles")
        await world.store(candle(1))
        await world.wait(10)
        await world.until_failing()
        await world.wait(60)
        await world.until_failing("candles")


async def test_candles_that_are_stored_and_do_not_arrive_here_are_red_until_they_do(world, candle, monkeypatch):
    """As without the right to read those of one symbol, which trades too seldom for that to show before."""
    async with world.running():
        await world.healthy()
        await world.until_failing()
        state = world.service.state
        apply = state.apply

        def apply_of_others(topic, *arguments, **more):
            return None if "/candles/kraken/BTC-USD/" in topic else apply(topic, *arguments, **more)

        await world.wait(60)
        await world.forming(candle(1, closed=False))
        await world.until(lambda: state.symbols["BTC/USD"].minute == candle(1).open_time)
        monkeypatch.setattr(state, "apply", apply_of_others)
        await world.wait(60)
        await world.candle(candle(1))
        await world.store(candle(1))
        await world.wait(26)
        await world.until(lambda: state.symbols["BTC/USD"].newest_closed(Timeframe.M1) == candle(1).open_time)
        await world.wait(6)
        detail = (await world.until_failing("stored"))["stored"]
        assert detail == "in the store, but not received here: candles of BTC/USD"
        await world.wait(10)
        await world.until_failing("stored")
        monkeypatch.setattr(state, "apply", apply)
        await world.wait(10)
        await world.until_failing()


async def test_candles_that_never_arrived_here_are_red_once_they_traded_or_are_stored(world, candle, monkeypatch):
    """As after a start without the right to read them."""
    async with world.running():
        await world.healthy()
        state = world.service.state
        apply = state.apply

        def apply_of_others(topic, *arguments, **more):
            return None if "/candles/kraken/ETH-USD/" in topic else apply(topic, *arguments, **more)

        monkeypatch.setattr(state, "apply", apply_of_others)
        await world.feed(symbols=("BTC/USD", "ETH/USD"))
        await world.status("aggregator", symbols=["BTC/USD", "ETH/USD"], initialized=2)
        await world.wait(40)
        await world.status("aggregator", symbols=["BTC/USD", "ETH/USD"], initialized=2)
        await world.until_failing()
        await world.store(candle(0, symbol="ETH/USD"))
        await world.until(lambda: "ETH/USD" in world.service.reconciler.stored._missed)
        world.now += 6
        await world.watermark()
        assert "ETH/USD" in (await world.until_failing("stored"))["stored"]
        state.traded.add("ETH/USD")
        assert "ETH/USD" in (await world.until_failing("stored", "seeds"))["seeds"]
        await world.seed("ETH/USD")
        monkeypatch.setattr(state, "apply", apply)
        # All timeframes by what the broker retains: this symbol does not trade now.
        await world.wait(10)
        await world.status("aggregator", symbols=["BTC/USD", "ETH/USD"], initialized=2)
        await world.until_failing()


async def test_a_higher_timeframe_that_does_not_close_is_red_unless_a_gap_is_known(world, candle):
    async with world.running():
        await world.healthy()
        await world.feed(since=world.now - 86_400)
        await world.watermark()
        await world.until_failing()
        for minute in range(5):
            await world.wait(60)
            await world.candle(candle(minute))
            await world.store(candle(minute))
        await world.until_failing("candles")
        await world.status("aggregator", symbols=["BTC/USD"], gaps={"BTC/USD": 60})
        await world.until_failing()


async def test_stopped_watermark_is_red_after_ten_seconds_until_it_advances(world):
    async with world.running():
        await world.healthy()
        await world.until_failing()
        world.now += 9
        await world.until_failing()
        world.now += 0.5
        found = await world.until_failing("feeds", "symbols")
        assert "watermark 10 s old" in found["feeds"]
        await world.watermark()
        await world.until_failing()


async def test_a_feed_that_is_down_is_red_also_when_it_no_longer_names_its_symbols(world):
    async with world.running():
        await world.healthy()
        await world.seed("ETH/USD")
        await world.feed("f2", ("ETH/USD",))
        await world.watermark("f2")
        await world.until_failing()
        await world.feed("f2", (), FeedCondition.DOWN)

        async def shows_down():
            return "f2: down" in (await world.health())[1].get("feeds", "")

        await world.until(shows_down)


async def test_dead_feed_with_symbols_on_another_feed_is_green(world):
    async with world.running():
        await world.healthy()
        await world.feed("f0", ("BTC/USD",), FeedCondition.DOWN)
        await world.until_failing()


async def test_feed_of_an_offline_gateway_is_red_for_a_minute_then_ignored(world):
    async with world.running():
        await world.healthy()
        await world.seed("ADA/USD")
        await world.feed("f2", ("ADA/USD",))
        await world.watermark("f2")
        await world.until_failing()
        await world.feed("f2", (), FeedCondition.DOWN)
        await world.until_failing("feeds")
        await world.status("kraken-gateway", feeds={"f1": "live", "f2": "down"})
        world.now += 61
        await world.watermark()
        await world.status("aggregator")
        await world.status("influx-writer")
        await world.seed("BTC/USD")
        # A gateway that is there has it still.
        await world.status("kraken-gateway", feeds={"f1": "live", "f2": "down"})
        await world.until_failing("feeds")
        # Nobody has it, and ADA/USD is not wanted any more.
        await world.services()
        await world.until_failing()


async def test_a_symbol_that_no_live_feed_carries_is_named(world, candle):
    async with world.running():
        await world.healthy()
        await world.seed("ADA/USD")
        await world.status("kraken-gateway", owned_since=dict.fromkeys(("BTC/USD", "ADA/USD"), rfc3339(world.now)))
        assert "ADA/USD" in (await world.until_failing("symbols"))["symbols"]


async def test_a_symbol_that_no_gateway_follows_any_more_is_named_and_not_red(world, candle):
    async with world.running() as http:
        await world.healthy()
        await world.candle(candle(symbol="ADA/USD"))
        await world.candle(candle(-2880, symbol="OLD/USD", at=world.now - 2 * 86400))
        await world.until(lambda: {"ADA/USD", "OLD/USD"} <= world.service.state.symbols.keys())
        await world.until_failing()
        assert "no longer followed: ADA/USD" in (await http.get("/health")).text
        assert "OLD/USD" not in str([c["detail"] for c in (await http.get("/health")).json()["checks"]])


async def test_a_rejected_symbol_is_shown_beside_the_good_ones(world):
    async with world.running() as http:
        await world.healthy()
        await world.feed(rejected={"XBT/USD": "Currency pair not supported XBT/USD"})
        await world.until_failing()
        body = (await http.get("/health")).json()
        assert body["feeds"][0]["rejected"] == {"XBT/USD": "Currency pair not supported XBT/USD"}
        details = [check["detail"] for check in body["checks"] if check["name"] == "symbols"]
        assert "rejected: XBT/USD (Currency pair not supported XBT/USD)" in details[0]


async def test_a_live_symbol_that_rest_does_not_know_is_red_with_that_reason(world):
    async with world.running():
        await world.healthy()
        await world.status("kraken-gateway", unknown_at_rest={"BTC/USD": "its gaps cannot be filled"})
        assert (await world.until_failing("symbols"))["symbols"] == "BTC/USD: its gaps cannot be filled"


@pytest.mark.parametrize("days", [-30, -1, 1, 30])
async def test_clock_days_off_is_reported_without_dead_letters(world, candle, days):
    await world.client.subscribe(world.topics.dead_letter("admin-api"))
    async with world.running() as http:
        true_now, world.now = world.now, world.now + days * 86_400
        good = candle()
        watermark = Watermark("f1", true_now - 1, true_now)

        async def named():
            await world.send(
                world.topics.feed("f1"), encode_feed_state(FeedState("f1", FeedCondition.LIVE, true_now, ("BTC/USD",)))
            )
            await world.send(world.topics.watermark("f1"), encode_watermark(watermark), retain=False)
            await world.candle(good)
            status, failing = await world.health()
            side = "ahead of" if days > 0 else "behind"
            return status == 503 and f"s {side} Kraken's time" in failing.get("clock", "")

        await world.until(named)
        assert (await http.get("/dead-letters")).json()["total"] == 0


async def test_candles_that_stop_while_the_feed_lives_are_red(world, candle):
    async with world.running():
        await world.healthy()
        await world.candle(candle())
        await world.until_failing()
        await world.wait(110)
        await world.until_failing()
        await world.wait(5)
        assert "BTC/USD 1m" in (await world.until_failing("candles"))["candles"]


@pytest.mark.parametrize("service", ["kraken-gateway", "aggregator", "influx-writer"])
async def test_a_service_without_an_online_instance_is_red(world, service):
    async with world.running():
        await world.healthy()
        await world.until_failing()
        await world.status(service, state=InstanceState.OFFLINE)
        await world.until_failing(service)
        await world.status(service, "i2")
        await world.until_failing()


async def test_instance_without_status_for_twelve_seconds_is_offline(world):
    async with world.running():
        await world.healthy()
        await world.until_failing()
        world.now += 12
        await world.watermark()
        await world.until_failing()
        world.now += 1
        await world.watermark()
        await world.until_failing("kraken-gateway", "aggregator", "influx-writer")


async def test_disconnected_broker_is_red_and_not_ready(world):
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


async def test_unavailable_store_is_red_and_not_ready(world):
    async with world.running() as http:
        await world.healthy()
        await world.until_failing()
        hidden = world.path.with_name("hidden.db")
        world.path.rename(hidden)
        await world.until_failing("store")
        assert (await http.get("/health/ready")).status_code == 503
        hidden.rename(world.path)
        await world.until_failing()


async def test_malformed_message_becomes_a_dead_letter_and_changes_nothing(world):
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


async def test_cleared_topic_is_forgotten(world, candle):
    async with world.running() as http:
        await world.healthy()
        await world.feed("f2", ("ADA/USD",))
        await world.candle(candle(symbol="ADA/USD"))
        await world.until_failing("feeds")
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
    ("changes", "problem"),
    [
        ({}, None),
        ({"exists": False}, "is missing"),
        ({"active": False}, "is switched off"),
        ({"error": "could not find bucket"}, "failed: could not find bucket"),
        ({"last_run": 1000.0 - 300 - 15 - 121}, "is 1 s late"),
        ({"last_run": None}, None),
        ({"last_run": None, "since": 0.0}, "is 565 s late"),
    ],
)
def test_missing_disabled_failed_or_late_task_is_red(changes, problem):
    state = TaskState("downsample_5m", 300, 15, exists=True, active=True, since=900.0, last_run=900.0)
    if changes.get("last_run"):
        changes = {**changes, "since": 0.0}
    assert task_problem(replace(state, **changes), 1000.0) == problem


async def test_candles_missed_by_a_writer_are_red_after_fifteen_seconds_until_received(world):
    async with world.running():
        await world.healthy()
        await world.status("influx-writer", missing_candles=7, missing_since=rfc3339(world.now - 15))
        await world.until_failing()
        await world.status("influx-writer", missing_candles=7, missing_since=rfc3339(world.now - 16))
        assert "7 for 16 s (i1)" in (await world.until_failing("losses"))["losses"]
        await world.status("influx-writer", missing_candles=0, missing_since=None)
        await world.until_failing()


async def test_candles_missed_by_an_offline_writer_are_ignored(world):
    async with world.running():
        await world.healthy()
        await world.status("influx-writer", "i2", missing_candles=7, missing_since=rfc3339(world.now - 60))
        await world.until_failing("losses")
        await world.status("influx-writer", "i2", InstanceState.OFFLINE)
        await world.until_failing()


async def test_a_secret_that_is_short_or_of_the_repository_is_a_warning_whichever_service_uses_it(world):
    others = {"influx_password": "change-me-influx", "mqtt_viewer_password": "fifteen letters"}
    async with world.running(admin_token="change-me-admin", **others) as http:
        await world.healthy()
        await world.status("influx-writer", published_secrets=["INFLUX_TOKEN"])

        async def warned():
            warnings = (await http.get("/health")).json()["warnings"]
            return [" ".join(text.split()[:3]) for text in warnings] == [
                "ADMIN_TOKEN of admin-api",
                "INFLUX_PASSWORD of admin-api",
                "MQTT_VIEWER_PASSWORD of admin-api",
                "INFLUX_TOKEN of influx-writer",
            ]

        await world.until(warned)
        await world.until_failing()
        await world.status("influx-writer")
        await world.until_failing()
        assert len((await http.get("/health")).json()["warnings"]) == 3
