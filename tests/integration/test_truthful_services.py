"""/health tells the truth about each service and its rights: processes with the stack's users and tokens."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from breaking import Way, failures, judge, steadily_green
from command import Running
from ingress_common.timeframes import Timeframe
from ingress_store.influx import names
from ingress_store.influx.names import WRITER_TOKEN
from servers import FOLDER, free_port
from stack_users import StackMosquitto
from waiting import until

pytestmark = pytest.mark.timeout(900)

ORG = "services"


@dataclass
class Processes:
    """Simulator and services, each a process; `running` holds them by module."""

    url: str
    http: httpx.AsyncClient
    influx: httpx.AsyncClient
    folder: Path
    stack: AsyncExitStack
    broker: StackMosquitto
    settings: dict[str, dict[str, str]]
    writer_token_id: str = ""
    running: dict[str, Running] = field(default_factory=dict)

    def problem(self) -> str | None:
        running = self.running["admin_api"]
        return None if running.process.returncode is None else running.output()

    async def start(self, module: str, *arguments: str) -> None:
        running = Running(module, module, *arguments, folder=self.folder, **self.settings[module])
        self.running[module] = await self.stack.enter_async_context(running)

    async def kill(self, module: str) -> None:
        await self.running[module].kill()

    async def stop(self, module: str) -> None:
        self.running[module].process.send_signal(signal.SIGTERM)
        await self.running[module].ended(20)

    async def keep_weeks_for(self, seconds: int) -> None:
        """Give the bucket of the 1w candles, which opened up to a week ago, another retention; 0 is forever."""
        found = (await self.influx.get("/buckets", params={"org": ORG, "name": names.candles(Timeframe.W1)})).json()
        rule = {"type": "expire", "everySeconds": seconds, "shardGroupDurationSeconds": seconds or 7 * 86_400}
        url = f"/buckets/{found['buckets'][0]['id']}"
        answer = await self.influx.patch(url, json={"retentionRules": [rule]})
        assert answer.status_code == 200, answer.text

    async def switch_writers_token(self, status: str) -> None:
        answer = await self.influx.patch(f"/authorizations/{self.writer_token_id}", json={"status": status})
        assert answer.status_code == 200, answer.text


@asynccontextmanager
async def processes(tmp_path: Path, mosquitto_of, influx_of) -> AsyncIterator[Processes]:
    broker, influx = StackMosquitto(mosquitto_of, tmp_path), influx_of()
    port, sim_port = free_port(), free_port()
    store = {"STORE_URL": influx.place.url, "INFLUX_ORG": ORG}
    kraken = {
        "SYMBOLS": "BTC/USD,ETH/USD",
        "KRAKEN_WS_URL": f"ws://127.0.0.1:{sim_port}/v2",
        "KRAKEN_REST_URL": f"http://127.0.0.1:{sim_port}",
    }
    settings: dict[str, dict[str, str]] = {
        "kraken_simulator": {},
        "admin_api": {**store, "INFLUX_TOKEN": influx.place.token, "HTTP_PORT": str(port)},
        "kraken_gateway": kraken,
        "aggregator": {},
        "influx_writer": store,
    }
    for module in ("admin_api", "kraken_gateway", "aggregator", "influx_writer"):
        user = module.replace("_", "-")
        url = broker.url(user)
        credentials = {"MQTT_URL": f"mqtt://{user}@127.0.0.1:{url.port}", "MQTT_PASSWORD": str(url.password)}
        settings[module] = {"HTTP_PORT": "0", "INSTANCE_ID": "one", **credentials, **settings[module]}
    async with (
        AsyncExitStack() as stack,
        httpx.AsyncClient(timeout=10) as http,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{influx.port}/api/v2", headers={"Authorization": f"Token {influx.place.token}"}
        ) as api,
    ):
        system = Processes(f"http://127.0.0.1:{port}", http, api, tmp_path, stack, broker, settings)
        await system.start("kraken_simulator", "--port", str(sim_port), "--control-port", str(free_port()))
        await system.start("admin_api")
        await until(lambda: writers_token(system), 60, system.running["admin_api"].output)
        system.writer_token_id, settings["influx_writer"]["INFLUX_TOKEN"] = await writers_token(system)
        for module in ("influx_writer", "aggregator", "kraken_gateway"):
            await system.start(module)
        yield system


async def writers_token(system: Processes) -> tuple[str, str] | None:
    """ID and text of the token that the bootstrap makes for the writer; None before that."""
    answer = (await system.influx.get("/authorizations", params={"org": ORG})).json()
    found = [token for token in answer.get("authorizations", ()) if token["description"] == WRITER_TOKEN]
    return (found[0]["id"], found[0]["token"]) if found else None


def frozen(module: str, *shows: str) -> Way[Processes]:
    return Way(lambda w: w.running[module].freeze(), lambda w: w.running[module].thaw(), shows)


def denied(user: str, topic: str, *shows: str) -> Way[Processes]:
    return Way(lambda w: w.broker.deny(user, topic), lambda w: w.broker.allow_all(), shows)


WAYS: dict[str, Way[Processes]] = {
    "the writer is frozen": frozen("influx_writer", "influx-writer", "stored"),
    "the aggregator is frozen": frozen("aggregator", "aggregator"),
    "the gateway is frozen": frozen("kraken_gateway", "kraken-gateway", "feeds", "symbols"),
    "the writer is killed": Way(
        lambda w: w.kill("influx_writer"), lambda w: w.start("influx_writer"), ("influx-writer", "stored")
    ),
    "the aggregator is killed": Way(lambda w: w.kill("aggregator"), lambda w: w.start("aggregator"), ("aggregator",)),
    "the gateway is stopped": Way(
        lambda w: w.stop("kraken_gateway"), lambda w: w.start("kraken_gateway"), ("kraken-gateway", "feeds", "symbols")
    ),
    "the writer's token is switched off": Way(
        lambda w: w.switch_writers_token("inactive"), lambda w: w.switch_writers_token("active"), ("influx-writer",)
    ),
    "the bucket of the weeks keeps an hour": Way(
        lambda w: w.keep_weeks_for(3600), lambda w: w.keep_weeks_for(0), ("influx-writer",)
    ),
    "the writer may not read the ticks": denied("influx-writer", "raw/kraken/#", "influx-writer"),
    "the writer may not read the ticks of one symbol": denied(
        "influx-writer", "raw/kraken/BTC-USD/1m", "influx-writer"
    ),
    "the writer may not read the candles of one symbol": denied(
        "influx-writer", "candles/kraken/BTC-USD/+", "influx-writer"
    ),
    "admin-api may not read the candles of one symbol": denied("admin-api", "candles/kraken/BTC-USD/+", "candles"),
    "the aggregator may not publish the candles of one symbol": denied(
        "aggregator", "candles/kraken/BTC-USD/+", "candles"
    ),
}


async def test_health_follows_each_failure_of_a_service(tmp_path, mosquitto_of, influx_of):
    async with processes(tmp_path, mosquitto_of, influx_of) as system:
        await steadily_green(system, 120)
        seen = await judge(system, system, WAYS)
    assert failures(seen) == {}


@pytest.mark.parametrize("module", ["admin_api", "kraken_gateway", "aggregator", "influx_writer"])
async def test_service_that_may_publish_but_not_read_is_not_ready(tmp_path, mosquitto_of, module):
    acl = tmp_path / "acl"
    acl.write_text("topic write #\n")
    acl.chmod(0o644)
    broker = mosquitto_of(f"allow_anonymous true\nacl_file {FOLDER}/acl\n", [acl])
    settings = {
        "MQTT_URL": f"mqtt://127.0.0.1:{broker.port}",
        "HTTP_PORT": str(free_port()),
        "INSTANCE_ID": "one",
        "STORE_URL": f"sqlite:///{tmp_path}/candles.db",
        "SYMBOLS": "BTC/USD",
        "KRAKEN_WS_URL": f"ws://127.0.0.1:{free_port()}/v2",
        "KRAKEN_REST_URL": f"http://127.0.0.1:{free_port()}",
    }
    url = f"http://127.0.0.1:{settings['HTTP_PORT']}/health/ready"
    async with (
        httpx.AsyncClient(timeout=10) as http,
        Running(module, module, folder=tmp_path, **settings) as running,
    ):

        async def says_so() -> bool:
            try:
                answer = await http.get(url)
            except httpx.TransportError:
                return False
            assert answer.status_code == 503, answer.text
            return f"may not read ingress/status/{module.replace('_', '-')}/one" in answer.text

        await until(says_so, 30, running.output)
        # Other tests, such as that of the store, have their results by now.
        await asyncio.sleep(6)
        assert await says_so()
