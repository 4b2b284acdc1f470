"""What the services count is what went over the bus and into the store: the whole pipeline in one process."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from memory_broker import MemoryBroker, MemoryBus
from prometheus_client import CollectorRegistry

from admin_api import AdminSettings
from admin_api.app import AdminApi
from aggregator.service import Aggregator
from influx_writer.writer import SESSION_SECONDS, Writer
from ingress_common.bus import LastWill, Message
from ingress_common.metrics import BusMetrics
from ingress_common.model import Candle
from ingress_common.payloads import decode_candle
from ingress_common.service import Service
from ingress_store import CandleStore, open_store, parse_store_url
from kraken_gateway.service import GatewayService
from kraken_simulator import Simulator, SimulatorConfig
from pipeline import TOPICS, aggregator_on, gateway_of, writer_on
from waiting import until

SYMBOLS = ("BTC/USD", "NANO/EUR")
"""One that trades all the time, and one that hardly ever does."""

MINUTE_ENDS = 1_709_164_860  # 2024-02-29T00:01:00Z
SERVICES = ("kraken-gateway", "aggregator", "influx-writer", "admin-api")

pytestmark = pytest.mark.timeout(120)


class Pipeline:
    """The four services on one clock, their registries, and what was heard on the bus."""

    def __init__(self, start: float, folder: Path) -> None:
        self.broker = MemoryBroker()
        self.registries = {service: CollectorRegistry() for service in SERVICES}
        self.candles: list[Candle] = []
        self.ticks = 0
        self.buses: dict[str, MemoryBus] = {}
        self._metrics = {service: BusMetrics(registry, service) for service, registry in self.registries.items()}
        self._offset = start - time.time()
        self._store_url = f"sqlite:///{folder / 'candles.db'}"

    def clock(self) -> float:
        return time.time() + self._offset

    def value(self, service: str, name: str, /, **labels: str) -> float:
        """What a service measures now, summed over the labels that are not given."""
        return sum(self.values(service, name, **labels).values())

    def values(self, service: str, name: str, /, **labels: str) -> Mapping[tuple[tuple[str, str], ...], float]:
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in self.registries[service].collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }

    # --- services ---

    def bus(self, service: str, client_id: str, will: LastWill | None = None, **limits: int) -> MemoryBus:
        metrics = self._metrics[service]
        self.buses[client_id] = MemoryBus(self.broker, client_id=client_id, will=will, metrics=metrics, **limits)
        return self.buses[client_id]

    def store(self) -> CandleStore:
        return open_store(parse_store_url(self._store_url), clock=self.clock)

    def gateway(self, simulator: Simulator) -> GatewayService:
        registry = self.registries["kraken-gateway"]
        return gateway_of(simulator, SYMBOLS, registry, partial(self.bus, "kraken-gateway"), self.clock)

    def aggregator(self) -> Aggregator:
        bus = self.bus("aggregator", "aggregator", session_expiry=60, inbound_limit=1000)
        return aggregator_on(bus, self.registries["aggregator"], self.clock)

    def writer(self) -> Writer:
        bus = self.bus("influx-writer", "writer", session_expiry=SESSION_SECONDS, inbound_limit=8_000)
        return writer_on(
            bus, self.bus("influx-writer", "writer-control"), self.store(), self.registries["influx-writer"], self.clock
        )

    def admin_api(self) -> AdminApi:
        return AdminApi(
            AdminSettings(_env_file=None, store_url=self._store_url, instance_id="m", http_port=0),
            bus=self.bus("admin-api", "admin", inbound_limit=5000),
            dead_letter_bus=self.bus("admin-api", "admin-letters", session_expiry=SESSION_SECONDS),
            store=self.store(),
            registry=self.registries["admin-api"],
            started_at=self.clock(),
            clock=self.clock,
        )

    # --- outside ---

    async def listen(self, bus: MemoryBus) -> None:
        async for event in bus.events():
            if isinstance(event, Message):
                if "/candles/" in event.topic:
                    self.candles.append(decode_candle(event.payload))
                else:
                    self.ticks += 1
                event.ack()


@asynccontextmanager
async def running(start: float, folder: Path) -> AsyncIterator[Pipeline]:
    pipeline = Pipeline(start, folder)
    config = SimulatorConfig(port=0, control_port=0, symbols=SYMBOLS, activity=1.0, history_weeks=80)
    async with (
        Simulator(config, clock=pipeline.clock) as simulator,
        MemoryBus(pipeline.broker, client_id="listener", inbound_limit=60_000) as listener,
    ):
        await listener.subscribe(TOPICS.candles("+", "+"), TOPICS.raw("+"))
        tasks = [asyncio.create_task(pipeline.listen(listener), name="listener")]

        def start(*services: Service) -> None:
            tasks.extend(asyncio.create_task(service.run(), name=service.name) for service in services)

        try:
            start(pipeline.writer(), pipeline.admin_api(), pipeline.gateway(simulator))
            # What is published before the writer has subscribed is published again: it would hear less than we do.
            await until(lambda: pipeline.value("influx-writer", "ingress_writer_symbols") == len(SYMBOLS))
            start(pipeline.aggregator())
            yield pipeline
        finally:
            for task in reversed(tasks):
                task.cancel()
                await asyncio.wait([task])
        for task in tasks:
            if not task.cancelled():
                task.result()


async def test_every_stage_counts_what_goes_over_the_bus_and_into_the_store(tmp_path):
    async with running(MINUTE_ENDS - 12, tmp_path) as pipeline:
        p = pipeline

        def minutes_closed_live() -> set[str]:
            return {
                c.symbol for c in p.candles if c.closed and c.timeframe.value == "1m" and c.close_time >= MINUTE_ENDS
            }

        await until(lambda: minutes_closed_live() == set(SYMBOLS))
        await until(lambda: p.value("admin-api", "ingress_health_check") > 0)

        # Received, published, stored: the same ticks everywhere, once nothing is under way. Aggregator and writer take
        # them from the moment on at which they have the symbols.
        def before_them() -> tuple[float, float] | None:
            """How many ticks each of them has not counted; None while the gateway's are not all here."""
            if p.ticks != p.value("kraken-gateway", "ingress_gateway_ticks_total"):
                return None
            written = p.value("influx-writer", "ingress_writer_written_total", kind="tick")
            return p.ticks - p.value("aggregator", "ingress_aggregator_ticks_total"), p.ticks - written

        def is_stored() -> bool:
            return p.value("influx-writer", "ingress_writer_in_hand") == 0 and before_them() is not None

        await until(is_stored)
        first, ticks = before_them(), p.ticks
        await until(lambda: p.ticks >= ticks + 5 and before_them() == first)

        def by_timeframe(kinds: tuple[str, ...]) -> dict[str, float]:
            name = "ingress_aggregator_candles_total"
            counts: Counter[str] = Counter()
            for kind in kinds:
                for labels, value in p.values("aggregator", name, kind=kind).items():
                    counts[dict(labels)["timeframe"]] += value
            return {timeframe: value for timeframe, value in counts.items() if value}

        def received(wanted: Callable[[Candle], bool]) -> dict[str, float]:
            return dict(Counter(candle.timeframe.value for candle in p.candles if wanted(candle)))

        def is_first_version(candle: Candle) -> bool:
            return candle.closed and not candle.revision

        # Every publication is counted once: a candle that comes again, or from an answer, under a kind of its own.
        kinds = ("closed", "infilled", "corrected", "repeated", "rebuilt")
        await until(lambda: by_timeframe(("forming",)) == received(lambda candle: not candle.closed))
        await until(lambda: by_timeframe(kinds) == received(lambda candle: candle.closed))
        distinct = {(c.symbol, c.timeframe, c.open_time, c.infilled) for c in p.candles if is_first_version(c)}
        for kind, infilled in (("infilled", True), ("closed", False)):
            told = sum(window[3] is infilled for window in distinct)
            counted = sum(by_timeframe((kind,)).values())
            assert 0 < counted <= told <= counted + sum(by_timeframe(("rebuilt",)).values())

        # Latencies: one for each candle that is news, and each tick.
        latency = "ingress_aggregator_publish_latency_seconds"
        await until(
            lambda: (
                p.value("aggregator", f"{latency}_count")
                == sum(by_timeframe(("forming", "closed", "infilled")).values())
            )
        )
        assert p.value("aggregator", f"{latency}_sum", kind="closed") > 0
        live = [candle for candle in p.candles if is_first_version(candle) and candle.close_time >= MINUTE_ENDS]
        close_to_store = "ingress_writer_close_to_store_seconds"
        await until(lambda: p.value("influx-writer", f"{close_to_store}_count", way="live") >= len(live))
        assert p.value("influx-writer", f"{close_to_store}_sum", way="live") > 0
        await until(
            lambda: p.value("influx-writer", f"{close_to_store}_count") == sum(map(is_first_version, p.candles))
        )
        for kind in ("forming", "tick"):
            written = p.value("influx-writer", "ingress_writer_written_total", kind=kind)
            receipt = p.value("influx-writer", "ingress_writer_receipt_to_store_seconds_count", kind=kind)
            assert receipt == written > 0

        # Feeds, connection attempts, queues, the system as admin-api sees it.
        assert p.value("kraken-gateway", "ingress_gateway_feed_symbols") == len(SYMBOLS)
        assert p.value("kraken-gateway", "ingress_gateway_watermark_lag_seconds") > 0
        assert p.value("admin-api", "ingress_watermark_age_seconds") > 0
        # The gauges of the gateway are set once a second.
        attempts, connects = "ingress_gateway_connection_attempts", "ingress_gateway_connects_total"
        await until(lambda: p.value("kraken-gateway", attempts) == p.value("kraken-gateway", connects) > 0)
        assert p.value("kraken-gateway", attempts) < p.value("kraken-gateway", f"{attempts}_limit")
        assert p.value("aggregator", "ingress_aggregator_symbols") == len(SYMBOLS)
        assert len(p.values("admin-api", "ingress_symbol_age_seconds")) == len(SYMBOLS)
        for service in SERVICES:
            assert p.value(service, "ingress_bus_connected") == 1
            assert p.value(service, "ingress_bus_published_total") > 0
            assert p.value(service, "ingress_bus_inbound_limit") >= p.value(service, "ingress_bus_inbound_queued")
        for seen in ("kraken-gateway", "aggregator", "influx-writer"):
            assert p.value("admin-api", "ingress_instance_online", service=seen) == 1

        # What makes no sense is put aside, counted where it was, and by admin-api.
        before = p.value("admin-api", "ingress_dead_letters_total")
        async with MemoryBus(p.broker, client_id="stranger") as stranger:
            await stranger.publish(TOPICS.raw("BTC/USD"), b"no candle")
        await until(lambda: p.value("aggregator", "ingress_aggregator_dead_letters_total") == 1)
        await until(lambda: p.value("influx-writer", "ingress_writer_dead_letters_total") == 1)
        await until(lambda: p.value("admin-api", "ingress_dead_letters_total") == before + 2)

        # One of the gateway's connections is away: it is not connected, whatever the others are.
        feed = next(bus for name, bus in p.buses.items() if name.startswith("gateway-g-"))
        feed.drop(reconnect=False)
        await until(lambda: p.value("kraken-gateway", "ingress_bus_connected") == 0)
        feed.resume()
        await until(lambda: p.value("kraken-gateway", "ingress_bus_connected") == 1)
