"""/health tells the truth: red within 15 s of what breaks the store, the broker, the feed or a token, green again
within 30 s after it is mended. A demo on a real Mosquitto and a real InfluxDB.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from running_demo import Demo, running_demo
from servers import InfluxServer, MqttServer

pytestmark = pytest.mark.timeout(900)

RED_SECONDS = 15.0
GREEN_SECONDS = 30.0
OUTAGE_SECONDS = 25
"""How long a fault of the simulator lasts, which ends by itself."""
ORG = "truthful"


@dataclass
class World:
    """The demo, its servers, and the token that it uses, which is not the tests' own."""

    demo: Demo
    broker: MqttServer
    influx: InfluxServer
    token_id: str
    impostor: asyncio.Server | None = None

    async def replace_influx(self, status: int) -> None:
        """Answer every request at InfluxDB's address with a page."""
        self.influx.stop()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65_536)
            writer.write(f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 4\r\n\r\npage".encode())
            writer.close()

        self.impostor = await asyncio.start_server(answer, "127.0.0.1", self.influx.port)

    async def restore_influx(self) -> None:
        if self.impostor is not None:
            self.impostor.close()
            self.impostor = None
        self.influx.start()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """InfluxDB's own interface, with the operator's token."""
        return ask(self.influx, method, path, body)


def ask(influx: InfluxServer, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{influx.port}/api/v2/{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Token {influx.place.token}", "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


Step = Callable[[World], Any]


def bucket_of(world: World, name: str) -> str:
    org = ask(world.influx, "GET", f"orgs?org={ORG}")["orgs"][0]["id"]
    return ask(world.influx, "GET", f"buckets?name={name}&orgID={org}")["buckets"][0]["id"]


def task_of(world: World, name: str) -> str:
    org = ask(world.influx, "GET", f"orgs?org={ORG}")["orgs"][0]["id"]
    return ask(world.influx, "GET", f"tasks?name={name}&orgID={org}")["tasks"][0]["id"]


def fault(kind: str, seconds: int) -> Step:
    async def step(world: World) -> None:
        await world.demo.fault(kind, seconds)

    return step


def nothing(_world: World) -> None:
    """It mends itself."""


WAYS: dict[str, tuple[Step, Step]] = {
    "InfluxDB is stopped": (lambda w: w.influx.stop(), lambda w: w.influx.start()),
    "InfluxDB is killed": (lambda w: w.influx.kill(), lambda w: w.influx.start()),
    "InfluxDB is frozen": (lambda w: w.influx.freeze(), lambda w: w.influx.thaw()),
    "the token is switched off": (
        lambda w: w.ask("PATCH", f"authorizations/{w.token_id}", {"status": "inactive"}),
        lambda w: w.ask("PATCH", f"authorizations/{w.token_id}", {"status": "active"}),
    ),
    "the bucket of minutes is deleted": (
        lambda w: w.ask("DELETE", f"buckets/{bucket_of(w, 'candles_1m')}"),
        nothing,
    ),
    "the bucket of days is deleted": (lambda w: w.ask("DELETE", f"buckets/{bucket_of(w, 'candles_1d')}"), nothing),
    "a task is switched off": (
        lambda w: w.ask("PATCH", f"tasks/{task_of(w, 'downsample_1h')}", {"status": "inactive"}),
        lambda w: w.ask("PATCH", f"tasks/{task_of(w, 'downsample_1h')}", {"status": "active"}),
    ),
    "the bucket of ticks is deleted": (lambda w: w.ask("DELETE", f"buckets/{bucket_of(w, 'ticks_1m')}"), nothing),
    "a task is deleted": (lambda w: w.ask("DELETE", f"tasks/{task_of(w, 'downsample_4h')}"), nothing),
    "a page answers in InfluxDB's place": (lambda w: w.replace_influx(200), lambda w: w.restore_influx()),
    "a proxy's 407 answers in InfluxDB's place": (lambda w: w.replace_influx(407), lambda w: w.restore_influx()),
    "the broker is stopped": (lambda w: w.broker.stop(), lambda w: w.broker.start()),
    "the broker is killed": (lambda w: w.broker.kill(), lambda w: w.broker.start()),
    "the broker is frozen": (lambda w: w.broker.freeze(), lambda w: w.broker.thaw()),
    "Kraken refuses everything": (fault("outage", OUTAGE_SECONDS), nothing),
    "Kraken is silent": (fault("silent", OUTAGE_SECONDS), nothing),
    "Kraken is half open": (fault("half_open", OUTAGE_SECONDS), nothing),
}
"""What is broken, and how it is mended."""


@asynccontextmanager
async def broken_world(tmp_path, mosquitto_of, influx_of) -> AsyncIterator[World]:
    broker, influx = mosquitto_of(), influx_of()
    org = ask(influx, "POST", "orgs", {"name": ORG})["id"]
    kinds = ("authorizations", "buckets", "orgs", "tasks", "users")
    rights = [{"action": do, "resource": {"type": kind}} for kind in kinds for do in ("read", "write")]
    made = ask(influx, "POST", "authorizations", {"orgID": org, "description": "the demo's", "permissions": rights})
    settings = {
        "MQTT_URL": broker.url,
        "STORE_URL": influx.place.url,
        "INFLUX_ORG": ORG,
        "INFLUX_TOKEN": made["token"],
        "SIM_SYMBOLS": "2",
        "LOG_LEVEL": "info",
    }
    async with running_demo(tmp_path, **settings) as demo:
        yield World(demo, broker, influx, made["id"])


async def taken(step: Any) -> None:
    """A step that may have to be awaited; InfluxDB's answer to it is of no interest."""
    if asyncio.iscoroutine(step):
        await step


async def failing(demo: Demo) -> dict[str, str]:
    answer = await demo.http.get(f"{demo.url}/dashboard/health")
    return {check["name"]: check["detail"] for check in answer.json()["checks"] if not check["ok"]}


async def seconds_until(demo: Demo, status: int, limit: float) -> float:
    began = time.monotonic()
    while await demo.health() != status:
        assert time.monotonic() - began < limit, f"expected {status}: {await failing(demo)}"
        assert demo.running.process.returncode is None, demo.running.output()
        await asyncio.sleep(0.2)
    return time.monotonic() - began


async def test_health_is_red_soon_after_each_breakage_and_green_soon_after_its_end(tmp_path, mosquitto_of, influx_of):
    figures: dict[str, str] = {}
    async with broken_world(tmp_path, mosquitto_of, influx_of) as world:
        await seconds_until(world.demo, 200, 120)
        for name, (break_it, mend) in WAYS.items():
            try:
                await taken(break_it(world))
                red = await seconds_until(world.demo, 503, RED_SECONDS)
                reasons = ", ".join(await failing(world.demo))
                await taken(mend(world))
                green = await seconds_until(world.demo, 200, OUTAGE_SECONDS + GREEN_SECONDS)
            except AssertionError as error:
                figures[name] = f"FAILED {str(error)[:600]}"
                break
            figures[name] = f"red after {red:.1f} s ({reasons}), green after {green:.1f} s"
            print(f"{name}: {figures[name]}", flush=True)
    assert not [name for name, figure in figures.items() if figure.startswith("FAILED")], figures
