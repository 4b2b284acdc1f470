"""When a replay is over."""

import asyncio
import time
from decimal import Decimal

import pytest
from core_rollup import roll_up_archive

from crypto_ingress.replay import Replay
from ingress_common.bus import Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.model import Candle, SeedRequest, Source
from ingress_common.payloads import encode_seed_request
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from ingress_store import SqliteStore

SYMBOL = "BTC/USD"
START = 1_708_819_200
TOPICS = Topics()


def minute(number: int) -> Candle:
    p, at = Decimal(100 + number), START + 60 * number
    return Candle(SYMBOL, Timeframe.M1, at, p, p, p, p, p, p, 3, True, False, True, 0, Source.ARCHIVE, at + 61.0)


async def test_a_replay_goes_on_until_a_candle_is_stored_that_is_older_than_the_newest(tmp_path, mosquitto_of):
    broker = mosquitto_of("allow_anonymous true\n")
    minutes = [minute(number) for number in range(20)]
    stored = list(roll_up_archive(SYMBOL, minutes))
    (late,) = (candle for candle in stored if candle.timeframe is Timeframe.M1 and candle.open_time == START + 420)
    async with (
        asyncio.timeout(60),
        SqliteStore(tmp_path / "candles.db") as store,
        MqttBus(broker.url, client_id="aggregator") as aggregator,
    ):
        await store.write([candle for candle in stored if candle is not late], [])
        replay = Replay(MqttBus(broker.url, client_id="replay"), TOPICS, store, SYMBOL, minutes, time.time)
        running = asyncio.create_task(replay.run())
        await aggregator.subscribe(TOPICS.feed("+"))
        await anext(event async for event in aggregator.events() if isinstance(event, Message))
        await aggregator.publish(TOPICS.seed_requests(), encode_seed_request(SeedRequest((SYMBOL,))))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.shield(running)
        await store.write([late], [])
        await running
