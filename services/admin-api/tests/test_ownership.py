"""Who owns what, in GET /health."""

from ingress_common.model import FeedCondition, InstanceState
from ingress_common.times import rfc3339


async def shown(world, symbol="BTC/USD"):
    body = (await world.http.get("/health")).json()
    entries = {entry["symbol"]: entry for entry in body["ownership"]}
    return entries.get(symbol), body["ownership_trouble"]


async def test_a_symbol_is_shown_with_its_gateway_feed_and_aggregator_and_since_when(world):
    async with world.running():
        await world.healthy()
        since = {"BTC/USD": rfc3339(world.now - 60)}
        await world.status("aggregator", symbols=["BTC/USD"], owned_since=since)
        await world.status("kraken-gateway", feeds={"f1": "live"}, owned_since={"BTC/USD": rfc3339(world.now - 90)})
        await world.until_failing()
        entry, problems = await shown(world)
        assert entry == {
            "symbol": "BTC/USD",
            "gateway": "i1",
            "gateway_since": rfc3339(world.now - 90),
            "feed": "f1",
            "feed_since": rfc3339(world.now),
            "aggregator": "i1",
            "aggregator_since": rfc3339(world.now - 60),
            "also": [],
        }
        assert not any(problems.values())


async def test_malformed_statuses_own_nothing(world):
    async with world.running():
        await world.healthy()
        await world.status("aggregator", "i2", symbols=7, owned_since=["BTC/USD"])
        await world.status("aggregator", "i3", symbols=["BTC/USD", 3], owned_since={"BTC/USD": "yesterday"})
        await world.until_failing()

        async def both():
            entry, _ = await shown(world)
            return entry["also"] == ["i3"] and entry["aggregator_since"] is None

        await world.until(both)


async def test_symbol_with_two_owners_is_reported(world):
    async with world.running():
        await world.healthy()
        await world.status("aggregator", "i2", symbols=["BTC/USD"])
        await world.feed("f2")
        await world.watermark("f2")

        async def twice():
            entry, problems = await shown(world)
            both = problems["several_aggregators"] == ["BTC/USD"] and problems["several_feeds"] == ["BTC/USD"]
            return both and set(entry["also"]) == {"f2", "i2"}

        await world.until(twice)


async def test_a_symbol_of_a_live_feed_without_an_aggregator_is_red_after_forty_seconds_and_not_before(world):
    async with world.running():
        await world.healthy()
        await world.until_failing()
        await world.status("aggregator", symbols=[])

        async def alone():
            return "BTC/USD" in (await shown(world))[1]["without_aggregator"]

        await world.until(alone)
        await world.until_failing()
        await world.wait(41)
        await world.status("aggregator", symbols=[])
        assert "BTC/USD" in (await world.until_failing("ownership"))["ownership"]
        await world.status("aggregator", symbols=["BTC/USD"])
        await world.until_failing()


async def test_an_aggregator_that_went_away_or_silent_owns_nothing(world):
    async with world.running():
        await world.healthy()
        await world.status("aggregator", "i2", symbols=["ETH/USD"])
        await world.status("aggregator", "i1", state=InstanceState.OFFLINE)
        await world.feed("f2", ("ETH/USD",), FeedCondition.LIVE)
        await world.watermark("f2")

        async def only_the_other():
            problems = (await shown(world))[1]
            return problems["without_aggregator"] == ["BTC/USD"]

        await world.until(only_the_other)
        world.now += 31
        await world.watermark("f2")

        async def nobody():
            return (await shown(world, "ETH/USD"))[1]["without_aggregator"] == ["ETH/USD"]

        await world.until(nobody)
