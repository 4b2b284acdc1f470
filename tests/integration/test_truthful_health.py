"""/health tells the truth about InfluxDB and its tokens: a demo on a real Mosquitto and a real InfluxDB."""

import asyncio
import json
import shutil
import urllib.request
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from breaking import SmallDisk, Way, failures, in_its_place, judge, nothing, small_disk, steadily_green
from running_demo import running_demo
from servers import InfluxServer

pytestmark = pytest.mark.timeout(900)

ORG = "truthful"
_TASK_FLUX = 'option task = {{name: "{name}", every: 1h}}\nfrom(bucket: "candles_1m") |> range(start: -1m)'


@dataclass
class World:
    """InfluxDB, the token that the demo uses, which is not the tests' own, and InfluxDB's disk if it is a small one."""

    influx: InfluxServer
    org_id: str
    token_id: str
    disk: SmallDisk | None
    impostor: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def replace(self, answer: bytes) -> None:
        """Answer every request at InfluxDB's address."""
        self.influx.stop()
        await self.impostor.enter_async_context(in_its_place(self.influx.port, answer))

    async def restore(self) -> None:
        await self.impostor.aclose()
        await asyncio.to_thread(self.influx.start)

    def free_disk(self) -> None:
        """InfluxDB does not try again to open a shard that it had no space for, until it is restarted."""
        self.disk.free()
        self.influx.stop()
        self.influx.start()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """InfluxDB's own interface, with the operator's token."""
        return call(self.influx, method, path, body)

    def bucket(self, name: str) -> str:
        return f"buckets/{self.call('GET', f'buckets?name={name}&orgID={self.org_id}')['buckets'][0]['id']}"

    def task(self, name: str) -> str:
        return f"tasks/{self.call('GET', f'tasks?name={name}&orgID={self.org_id}')['tasks'][0]['id']}"

    def switch_token(self, status: str) -> None:
        self.call("PATCH", f"authorizations/{self.token_id}", {"status": status})

    def switch_task(self, name: str, status: str) -> None:
        self.call("PATCH", self.task(name), {"status": status})

    def break_task(self, name: str) -> None:
        self.call("PATCH", self.task(name), {"flux": _TASK_FLUX.format(name=name)})

    def name_org(self, name: str) -> None:
        self.call("PATCH", f"orgs/{self.org_id}", {"name": name})


def call(influx: InfluxServer, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{influx.port}/api/v2/{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Token {influx.place.token}", "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def page(status: int, body: bytes = b"page") -> bytes:
    return f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


STORE = ("store", "stored", "influx-writer")
TASKS = ("store", "stored", "tasks")
WAYS: dict[str, Way[World]] = {
    "InfluxDB's disk is full": Way(lambda w: w.disk.fill(), lambda w: w.free_disk(), STORE),
    "InfluxDB is stopped": Way(lambda w: w.influx.stop(), lambda w: w.influx.start(), STORE),
    "InfluxDB is killed": Way(lambda w: w.influx.kill(), lambda w: w.influx.start(), STORE),
    "InfluxDB is frozen": Way(lambda w: w.influx.freeze(), lambda w: w.influx.thaw(), STORE),
    "the token is switched off": Way(lambda w: w.switch_token("inactive"), lambda w: w.switch_token("active"), STORE),
    "the organisation has another name": Way(lambda w: w.name_org("another"), lambda w: w.name_org(ORG), STORE),
    "the bucket of minutes is deleted": Way(lambda w: w.call("DELETE", w.bucket("candles_1m")), nothing, STORE),
    "the bucket of days is deleted": Way(lambda w: w.call("DELETE", w.bucket("candles_1d")), nothing, STORE),
    "the bucket of ticks is deleted": Way(lambda w: w.call("DELETE", w.bucket("ticks_1m")), nothing, STORE),
    "a task is switched off": Way(
        lambda w: w.switch_task("downsample_1h", "inactive"), lambda w: w.switch_task("downsample_1h", "active"), TASKS
    ),
    "a task is deleted": Way(lambda w: w.call("DELETE", w.task("downsample_4h")), nothing, TASKS),
    "a page answers in InfluxDB's place": Way(lambda w: w.replace(page(200)), lambda w: w.restore(), STORE),
    "a proxy's 407 answers in InfluxDB's place": Way(lambda w: w.replace(page(407)), lambda w: w.restore(), STORE),
    "204 answers everything in InfluxDB's place": Way(
        lambda w: w.replace(b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n"), lambda w: w.restore(), STORE
    ),
    "an empty object answers everything": Way(lambda w: w.replace(page(200, b"{}")), lambda w: w.restore(), STORE),
}


async def test_health_follows_each_failure_of_influxdb(tmp_path, mosquitto_of, influx_of):
    with small_disk(tmp_path / "disk", 96) as disk:
        small = disk is not None and shutil.which("influxd") is not None
        broker, influx = mosquitto_of(), influx_of(engine=disk.path / "engine" if disk and small else None)
        org = call(influx, "POST", "orgs", {"name": ORG})["id"]
        kinds = ("authorizations", "buckets", "orgs", "tasks", "users")
        rights = [{"action": do, "resource": {"type": kind}} for kind in kinds for do in ("read", "write")]
        made = call(influx, "POST", "authorizations", {"orgID": org, "description": "demo", "permissions": rights})
        settings = {
            "MQTT_URL": broker.url,
            "STORE_URL": influx.place.url,
            "INFLUX_ORG": ORG,
            "INFLUX_TOKEN": made["token"],
            "SIM_SYMBOLS": "2",
        }
        async with running_demo(tmp_path, **settings) as demo:
            await steadily_green(demo, 120)
            ways = {name: way for name, way in WAYS.items() if small or "disk" not in name}
            seen = await judge(demo, World(influx, org, made["id"], disk), ways)
    assert failures(seen) == {}
