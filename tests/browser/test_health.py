"""The health page while services of a stack of processes are stopped and started."""

import time
from contextlib import AsyncExitStack

import pytest

from admin_client import Api
from chromium import browser_on
from command import Running
from servers import free_port

SERVICES = ("influx_writer", "aggregator", "kraken_gateway")
RED_SECONDS = 15

pytestmark = pytest.mark.timeout(400)


class Processes:
    """Broker, simulator and the services, each a process; `running` holds them by module."""

    def __init__(self, folder, mqtt_url: str, stack: AsyncExitStack) -> None:
        self.port = free_port()
        self.running: dict[str, Running] = {}
        self._folder = folder
        self._stack = stack
        self._sim_port = free_port()
        self._settings = {"MQTT_URL": mqtt_url, "STORE_URL": f"sqlite:///{folder / 'candles.db'}", "INSTANCE_ID": "one"}

    async def start_all(self) -> Api:
        ports = ("--port", str(self._sim_port), "--control-port", str(free_port()))
        simulator = Running("kraken_simulator", "kraken_simulator", *ports, folder=self._folder)
        self.running["kraken_simulator"] = await self._stack.enter_async_context(simulator)
        await self.start("admin_api", HTTP_PORT=str(self.port))
        for service in SERVICES:
            await self.start(service)
        return Api(f"http://127.0.0.1:{self.port}")

    async def start(self, service: str, **settings: str) -> None:
        settings = {"HTTP_PORT": "0", **self._settings, **settings}
        kraken = {
            "SYMBOLS": "BTC/USD,ETH/USD",
            "KRAKEN_WS_URL": f"ws://127.0.0.1:{self._sim_port}/v2",
            "KRAKEN_REST_URL": f"http://127.0.0.1:{self._sim_port}",
        }
        more = kraken if service == "kraken_gateway" else {}
        running = Running(service, service, folder=self._folder, **settings, **more)
        self.running[service] = await self._stack.enter_async_context(running)

    def output(self) -> str:
        return "\n".join(f"{name}: {running.output()[-600:]}" for name, running in self.running.items())


@pytest.mark.parametrize("service", SERVICES)
async def test_health_is_red_after_a_kill_and_green_after_recovery(tmp_path, mosquitto_of, service):
    async with AsyncExitStack() as stack:
        processes = Processes(tmp_path, mosquitto_of().url, stack)
        api = await processes.start_all()
        api.until_health(200, 90, processes.output)
        browser = stack.enter_context(browser_on(api.base, tmp_path / "profile"))
        browser.open("#/health")
        name = service.replace("_", "-")
        cell = f'[data-section="Checks"] [data-key="{name}"] [data-mark]'
        browser.until(lambda: browser.attribute("#verdict", "data-mark") == "good", 20, "a green page")
        assert browser.text(cell) == "ok"

        await processes.running[service].kill()
        killed = time.monotonic()
        browser.until(lambda: browser.attribute("#verdict", "data-mark") == "bad", RED_SECONDS, "a red page")
        browser.until(lambda: browser.text(cell) == "failing", RED_SECONDS - (time.monotonic() - killed), "a red check")
        assert browser.attribute("#overall", "data-mark") == "bad"
        assert browser.text(f'[data-section="Services"] [data-key="{name} one"] [data-mark]') == "offline"

        await processes.start(service)
        browser.until(lambda: browser.attribute("#verdict", "data-mark") == "good", 120, "a green page again")
        assert browser.text(cell) == "ok"
        assert browser.attribute("#overall", "data-mark") == "good"
        assert browser.complaints() == []
        assert browser.requested_hosts() == {browser.base.removeprefix("http://")}
