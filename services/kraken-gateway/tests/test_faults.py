"""Every fault of the simulator, alone and in pairs: a correct stream or a stopped watermark, and few connections."""

import asyncio
import itertools
import random
import time
from dataclasses import dataclass, field

import httpx
import pytest
from gateway_world import Follower, fault, near_a_minutes_end, truth_of
from memory_broker import MemoryBroker, MemoryBus
from prometheus_client import CollectorRegistry

from ingress_common.bus import Message
from ingress_common.model import FeedCondition, SeedRequest
from ingress_common.payloads import (
    decode_candle,
    decode_feed_state,
    decode_history,
    decode_watermark,
    encode_seed_request,
)
from ingress_common.settings import load_settings
from ingress_common.topics import Topics
from kraken_gateway.service import GatewayService
from kraken_gateway.settings import GatewaySettings

pytest.importorskip("kraken_simulator", reason="the simulator is not installed")
from kraken_simulator import Simulator, SimulatorConfig
from kraken_simulator.faults import KINDS

SYMBOLS = ("BTC/USD", "ETH/USD", "ADA/USD")
TOPICS = Topics()
# A trade that Kraken itself learns of late is no fault of the stream: a correction follows when history is requested.
REVISING = {"revised_snapshot", "rest_revision"}
PLAIN = sorted(KINDS.keys() - REVISING)
DECODERS = {"raw": decode_candle, "history": decode_history, "feed": decode_feed_state}


@dataclass
class World:
    """A gateway on a simulated Kraken of its own, and all that it has published."""

    kinds: tuple[str, ...]
    received: list[tuple[str, object]] = field(default_factory=list)

    async def live_through(self) -> str:
        """Have the faults around a minute's end; returns what is wrong, empty if nothing is."""
        clock = near_a_minutes_end(12.0)
        config = SimulatorConfig(port=0, control_port=0, symbols=SYMBOLS, history_weeks=12)
        broker = MemoryBroker()
        async with (
            Simulator(config, clock=clock) as simulator,
            MemoryBus(broker, client_id="listener", inbound_limit=60_000) as bus,
        ):
            await bus.subscribe("ingress/#")
            settings = load_settings(
                GatewaySettings,
                _env_file=None,
                symbols="*",
                kraken_ws_url=simulator.ws_url,
                kraken_rest_url=simulator.rest_url,
                instance_id="gw",
            )
            service = GatewayService(
                settings,
                CollectorRegistry(),
                lambda suffix, will: MemoryBus(broker, client_id=f"gateway-{suffix}", will=will),
                time.time,
            )
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._listen(bus)), tasks.create_task(service.run())]
                await self._until(lambda: len(self._covered()) == len(SYMBOLS), 40.0)
                await bus.publish(TOPICS.seed_requests(), encode_seed_request(SeedRequest(SYMBOLS)))
                end = clock() // 60 * 60 + 60
                # The scenario has these times: a fault from 5 s before the minute's end until 4 s after it.
                await asyncio.sleep(max(0.0, end - clock() - 5.0))
                for kind in self.kinds:
                    await fault(simulator, kind=kind, seconds=9)
                await asyncio.sleep(max(0.0, end - clock()) + 5.0)
                await self._until(lambda: len(self._covered()) == len(SYMBOLS) and self._marked(end + 2), 70.0)
                problem = await self._wrong(simulator)
                for _ in range(90):
                    # A subscription that became stale seconds before the minute's end is corrected by a reading after
                    # that minute, or after the next one where the first cannot be compared.
                    if not problem or not {"blind", "late_frame"} & set(self.kinds):
                        break
                    await asyncio.sleep(1.0)
                    problem = await self._wrong(simulator)
                for task in running:
                    task.cancel()
        return problem

    async def _listen(self, bus: MemoryBus) -> None:
        async for event in bus.events():
            if isinstance(event, Message):
                levels = TOPICS.split(event.topic)
                kind = "watermark" if levels[-1] == "watermark" else levels[0]
                decode = decode_watermark if kind == "watermark" else DECODERS.get(kind)
                if decode is not None:
                    self.received.append((kind, decode(event.payload)))
                event.ack()

    async def _until(self, condition, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.05)

    def _covered(self) -> set[str]:
        states = {state.feed: state for kind, state in self.received if kind == "feed"}
        live = [state for state in states.values() if state.state is FeedCondition.LIVE]
        return {symbol for state in live for symbol in state.symbols}

    def _marked(self, instant: float) -> bool:
        return any(kind == "watermark" and mark.watermark >= instant for kind, mark in self.received)

    async def _wrong(self, simulator: Simulator) -> str:
        follower = Follower.of(self.received)
        problems = []
        for symbol in SYMBOLS:
            minutes = follower.minutes(symbol)
            truth = await truth_of(simulator, symbol, minutes)
            problems += [
                f"{symbol} {minute}: {follower.states.get((symbol, minute))}, but {truth.get(minute)}"
                for minute in minutes
                if follower.states.get((symbol, minute)) != truth.get(minute)
            ]
        async with httpx.AsyncClient(timeout=30.0) as client:
            stats = (await client.get(f"{simulator.control_url}/stats")).json()
        if stats["connection_attempts"] > 75:
            problems.append(f"{stats['connection_attempts']} connection attempts")
        return f"{'+'.join(self.kinds)}: {'; '.join(problems)}" if problems else ""


async def lived_through(kinds: list[tuple[str, ...]]) -> list[str]:
    async def one(pair: tuple[str, ...]) -> str:
        try:
            return await World(pair).live_through()
        except (TimeoutError, ExceptionGroup) as error:
            return f"{'+'.join(pair)}: does not come back: {error!r}"

    return [problem for problem in await asyncio.gather(*map(one, kinds)) if problem]


@pytest.mark.parametrize("part", [0, 1, 2])
async def test_every_fault_leaves_a_correct_stream_or_a_stopped_watermark(part):
    assert await lived_through([(kind,) for kind in PLAIN[part::3]]) == []


async def test_pairs_of_faults_leave_a_correct_stream_or_a_stopped_watermark():
    pairs = list(itertools.combinations(PLAIN, 2))
    readings_fail = [("blind", "late_frame"), ("blind", "rest_down")]
    assert await lived_through([*readings_fail, *random.Random(7).sample(pairs, 6)]) == []
