"""The services in the test's process: on the in-memory bus, on one clock, with a simulated Kraken."""

from collections.abc import Callable, Collection

from prometheus_client import CollectorRegistry

from aggregator.service import Aggregator
from aggregator.subscriptions import SymbolSubscriptions
from influx_writer.writer import Limits, Writer
from ingress_common.bus import Bus, LastWill
from ingress_common.settings import load_settings
from ingress_common.topics import Topics
from ingress_store import CandleStore
from kraken_gateway.service import GatewayService
from kraken_gateway.settings import GatewaySettings
from kraken_simulator import Simulator

TOPICS = Topics()
Clock = Callable[[], float]


def gateway_of(
    simulator: Simulator,
    symbols: Collection[str],
    registry: CollectorRegistry,
    open_bus: Callable[[str, LastWill | None], Bus],
    clock: Clock,
) -> GatewayService:
    """A gateway on `simulator`; `open_bus` creates a bus from a client id and a last will."""
    settings = load_settings(
        GatewaySettings,
        _env_file=None,
        symbols=",".join(symbols),
        kraken_ws_url=simulator.ws_url,
        kraken_rest_url=simulator.rest_url,
        instance_id="g",
    )
    return GatewayService(settings, registry, lambda suffix, will: open_bus(f"gateway-{suffix}", will), clock)


def aggregator_on(bus: Bus, registry: CollectorRegistry, clock: Clock) -> Aggregator:
    """An aggregator; `bus` needs a session and an inbound limit of 1,000."""
    return Aggregator(bus, TOPICS, SymbolSubscriptions(TOPICS), "a", registry, clock)


def writer_on(bus: Bus, control: Bus, store: CandleStore, registry: CollectorRegistry, clock: Clock) -> Writer:
    """A writer that writes ten times a second; `bus` needs a session and an inbound limit of 8,000."""
    return Writer(
        bus=bus,
        control=control,
        store=store,
        topics=TOPICS,
        instance="w",
        registry=registry,
        started_at=clock(),
        clock=clock,
        limits=Limits(seconds=0.1),
    )
