"""Kraken behind a proxy that decrypts TLS: the proxy's certificate comes from an authority that the system lacks."""

import asyncio
import ssl
import time
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry

from ingress_common.errors import SettingsError
from ingress_common.settings import load_settings
from kraken_gateway.kraken.connection import ConnectionLost, Kraken
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.limits import ConnectionLimiter
from kraken_gateway.kraken.rest import KrakenAilingError, KrakenRest
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.service import GatewayService
from kraken_gateway.settings import GatewaySettings
from proxy import CuttableProxy

pytest.importorskip("kraken_simulator", reason="the simulator is not installed")
import httpx

from kraken_simulator import Simulator, SimulatorConfig


@pytest.fixture
async def proxy(certificates):
    """The simulator over TLS, for WebSocket and REST."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.cert("admin-api"), certificates.key("admin-api"))
    config = SimulatorConfig(port=0, control_port=0, symbols=("BTC/USD",), history_weeks=80)
    async with (
        Simulator(config) as simulator,
        CuttableProxy("127.0.0.1", urlsplit(simulator.rest_url).port, context) as proxy,
    ):
        yield proxy


def settings_of(proxy: CuttableProxy, **values) -> GatewaySettings:
    return load_settings(
        GatewaySettings,
        _env_file=None,
        symbols="BTC/USD",
        kraken_ws_url=f"wss://127.0.0.1:{proxy.port}/v2",
        kraken_rest_url=f"https://127.0.0.1:{proxy.port}",
        **values,
    )


async def test_a_gateway_that_trusts_the_proxys_authority_is_ready_and_has_history(
    proxy, certificates, open_bus, listener
):
    settings = settings_of(proxy, kraken_ca_file=certificates.ca)
    service = GatewayService(settings, CollectorRegistry(), open_bus, time.time)
    task = asyncio.create_task(service.run())
    try:
        await listener.until(lambda: service.health().ready and listener.of("raw"), 30.0)
        async with httpx.AsyncClient(verify=settings.kraken_tls.client_context()) as client:
            rest = KrakenRest(
                settings.kraken_rest_url, client, GatewayMetrics(CollectorRegistry()), KrakenClock(time.time)
            )
            assert "BTC/USD" in await rest.pairs()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_an_unknown_authority_is_named_with_its_setting(proxy, certificates):
    for settings in (settings_of(proxy), settings_of(proxy, kraken_ca_file=certificates.stranger)):
        metrics, clock = GatewayMetrics(CollectorRegistry()), KrakenClock(time.time)
        limiter = ConnectionLimiter(time.monotonic)
        kraken = Kraken(settings.kraken_ws_url, limiter, clock, metrics, settings.kraken_tls)
        with pytest.raises(ConnectionLost, match=r"certificate is not trusted.*KRAKEN_CA_FILE"):
            async with kraken.connect("test"):
                pass
        async with httpx.AsyncClient(verify=settings.kraken_tls.client_context()) as client:
            with pytest.raises(KrakenAilingError, match=r"certificate is not trusted.*KRAKEN_CA_FILE"):
                await KrakenRest(settings.kraken_rest_url, client, metrics, clock).pairs()


@pytest.mark.parametrize("plain", [{"kraken_ws_url": "ws://kraken/v2"}, {"kraken_rest_url": "http://kraken"}])
def test_an_authority_for_a_url_without_tls_is_refused(certificates, plain):
    with pytest.raises(SettingsError, match=r"KRAKEN_CA_FILE is for wss:// and https://"):
        load_settings(GatewaySettings, _env_file=None, symbols="*", kraken_ca_file=certificates.ca, **plain)
