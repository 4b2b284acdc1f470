import asyncio
import json
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter

from ingress_common.errors import StartError
from ingress_common.health import Check, Health
from ingress_common.health_server import HealthServer


async def get(port: int, path: str) -> tuple[int, str]:
    def read() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(read)


async def test_readiness_follows_the_service():
    health = Health(live=True, ready=False, checks=(Check("broker", ok=False, detail="not connected"),))
    async with HealthServer("127.0.0.1", 0, lambda: health, CollectorRegistry()) as server:
        assert (await get(server.port, "/health/live"))[0] == 200
        code, body = await get(server.port, "/health/ready")
        assert code == 503
        assert json.loads(body)["checks"] == [{"name": "broker", "ok": False, "detail": "not connected"}]
        health = Health(live=False, ready=True)
        assert (await get(server.port, "/health/ready"))[0] == 200
        assert (await get(server.port, "/health/live"))[0] == 503


@pytest.mark.parametrize("host", ["s3cret.invalid", "s3cret" * 20])
async def test_name_that_means_no_address_is_not_shown(host):
    with pytest.raises(StartError) as error:
        async with HealthServer(host, 0, lambda: Health(live=True, ready=True), CollectorRegistry()):
            pass
    assert str(error.value).startswith(
        "cannot listen: expected an address of this machine, got something else (hidden)"
    )
    assert "s3cret" not in str(error.value)


async def test_metrics_are_those_of_the_registry():
    registry = CollectorRegistry()
    Counter("ingress_things", "Things", registry=registry).inc()
    async with HealthServer("127.0.0.1", 0, lambda: Health(live=True, ready=True), registry) as server:
        code, body = await get(server.port, "/metrics")
    assert code == 200
    assert "ingress_things_total 1.0" in body


async def test_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port}"):
            async with HealthServer("127.0.0.1", port, lambda: Health(live=True, ready=True), CollectorRegistry()):
                pass


async def test_invalid_host_is_reported():
    with pytest.raises(StartError, match=r"300\.300\.300\.300"):
        async with HealthServer("300.300.300.300", 0, lambda: Health(live=True, ready=True), CollectorRegistry()):
            pass
