"""The services as a test runs them in its own process: on the in-memory bus, on one clock, with a simulated Kraken."""

from collections.abc import Callable, Collection

from prometheus_client import CollectorRegistry

from aggregator.inputs import SymbolInputs
from aggregator.service import Aggregator
from influx_writer.writer import Limits, Writer, own_filters
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
    """A gateway that takes `simulator` for Kraken; `open_bus` makes a bus of a client id and a last will."""
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
    """An aggregator; `bus` needs a session and takes 1,000 messages."""
    return Aggregator(bus, TOPICS, SymbolInputs(TOPICS), "a", registry, clock)


def writer_on(bus: Bus, store: CandleStore, registry: CollectorRegistry, clock: Clock) -> Writer:
    """A writer that writes ten times a second; `bus` needs a session and takes 5,000 messages."""
    return Writer(
        bus=bus,
        store=store,
        topics=TOPICS,
        filters=own_filters(TOPICS),
        instance="w",
        registry=registry,
        started_at=clock(),
        clock=clock,
        limits=Limits(seconds=0.1),
    )
