"""The recipes of docs/reading.md for programs that run beside the system: as written, but for addresses and tokens."""

import asyncio
import functools
import http.server
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
import yaml

from chromium import browser_on
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.url import MqttUrl
from ingress_common.model import Candle
from ingress_common.payloads import encode_candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import Topics
from ingress_store import InfluxAccess, InfluxStore, Retention, SqliteStore
from servers import InfluxPlace, free_port, missing
from test_readers import PAGE, minutes, write_files
from waiting import until

NODE = Path(__file__).parent / "node" / "node_modules"
NODE_BIN = Path(__file__).parents[2] / ".venv" / "bin"
FOREVER = Retention(dict.fromkeys(TIMEFRAMES))
RECIPES = dict(re.findall(r"<!-- recipe: ([^>]+?) -->\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def hours(tmp_path_factory) -> list[Candle]:
    """The closed hours of BTC/USD."""

    async def made(folder: Path) -> list[Candle]:
        await write_files(folder, minutes())
        async with SqliteStore(folder / "candles.db") as store:
            return await store.candles("BTC/USD", Timeframe.H1, limit=10_000)

    return asyncio.run(made(tmp_path_factory.mktemp("hours")))


@pytest.fixture(scope="module")
def node() -> Path:
    """The folder of Node-RED and lightweight-charts."""
    if not NODE.exists():
        missing("Node-RED and lightweight-charts", "make readers-venv")
    return NODE


@dataclass(frozen=True)
class Influx:
    """An organisation with our buckets."""

    url: str
    org: str
    token: str

    async def reader(self) -> str:
        """The token for Grafana and scripts, which the bootstrap made."""
        known = (await self._call("GET", "authorizations", params={"org": self.org}))["authorizations"]
        return next(token["token"] for token in known if token["description"] == "crypto-ingress reader")

    async def create_bucket(self, name: str) -> None:
        (org,) = (await self._call("GET", "orgs", params={"org": self.org}))["orgs"]
        await self._call("POST", "buckets", json={"orgID": org["id"], "name": name, "retentionRules": []})

    async def query(self, flux: str) -> list[dict[str, str]]:
        body = {"query": flux, "dialect": {"annotations": []}}
        text = await self._call("POST", "query", params={"org": self.org}, json=body)
        header, *rows = [line.split(",") for line in text.split()] or [[]]
        return [dict(zip(header, row, strict=True)) for row in rows]

    async def _call(self, method: str, path: str, **arguments: Any) -> Any:
        headers = {"Authorization": f"Token {self.token}"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            answer = await client.request(method, f"{self.url}/api/v2/{path}", **arguments)
        answer.raise_for_status()
        return answer.text if path == "query" else answer.json()


@asynccontextmanager
async def influx_with(place: InfluxPlace, hours: list[Candle]) -> AsyncIterator[Influx]:
    org = f"test-{uuid4().hex[:12]}"
    async with InfluxStore(place.store_url, InfluxAccess(org, place.token), retention=FOREVER) as store:
        await store.bootstrap()
        await store.write(hours, [])
    yield Influx(place.url.replace("influxdb", "http", 1), org, place.token)


def test_every_recipe_is_run():
    served = {"lightweight-charts", "Grafana data source", "Grafana panel", "Telegraf", "Node-RED"}
    assert served == {name for name, code in RECIPES.items() if f"<!-- recipe: {name} -->\n```py\n" not in PAGE}


# --- Grafana ----------------------------------------------------------------------------------------------------------


async def test_query_of_the_grafana_panel_gives_the_candles(influx_place, hours):
    (source,) = yaml.safe_load(RECIPES["Grafana data source"])["datasources"]
    settings = source["jsonData"]
    assert (source["type"], settings["version"], settings["organization"]) == ("influxdb", "Flux", "crypto-ingress")
    # Grafana puts its own values in the place of these texts.
    query = RECIPES["Grafana panel"]
    for name, value in (
        ("defaultBucket", f'"{settings["defaultBucket"]}"'),
        ("timeRangeStart", rfc3339(hours[10].open_time)),
        ("timeRangeStop", rfc3339(hours[20].open_time)),
    ):
        query = query.replace(f"v.{name}", value)
    async with influx_with(influx_place, hours) as influx:
        rows = await replace(influx, token=await influx.reader()).query(query)
    assert [row["_time"] for row in rows] == [rfc3339(c.open_time) for c in hours[10:20]]
    for name in ("open", "high", "low", "close", "volume"):
        assert [float(row[name]) for row in rows] == [float(getattr(c, name)) for c in hours[10:20]]
    # One table is one chart.
    assert len({row["table"] for row in rows}) == 1


# --- Telegraf ---------------------------------------------------------------------------------------------------------


async def test_telegraf_writes_the_closed_candles(influx_place, mosquitto_of, hours, tmp_path):
    binary = shutil.which("telegraf")
    if binary is None:
        pytest.skip("no telegraf on the PATH: a release of 1.37, or one with mqtt_consumer, influxdb_v2 and json_v2")
    broker = mosquitto_of()
    async with influx_with(influx_place, hours[:1]) as influx:
        await influx.create_bucket("telegraf")
        text = RECIPES["Telegraf"]
        for usual, here in (
            ("tcp://localhost:1883", broker.url.replace("mqtt", "tcp", 1)),
            ("http://localhost:8086", influx.url),
            ("$INFLUX_TOKEN", influx.token),
            ('"crypto-ingress"', f'"{influx.org}"'),
        ):
            assert usual in text
            text = text.replace(usual, here)
        (tmp_path / "telegraf.conf").write_text(text)
        flux = (
            'from(bucket: "telegraf") |> range(start: 0) |> filter(fn: (r) => r._measurement == "candle")'
            ' |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
        )
        some = [hours[0], msgspec.structs.replace(hours[1], closed=False), *hours[2:40]]
        command = [binary, "--config", "telegraf.conf"]
        async with publishing(broker.url, some), running(*command, folder=tmp_path):
            await until(lambda: has_rows(influx, flux, 39), 60, functools.partial(log_of, tmp_path))
            rows = sorted(await influx.query(flux), key=lambda row: row["_time"])
    closed = [c for c in some if c.closed]
    assert [row["_time"] for row in rows] == [rfc3339(c.open_time) for c in closed]
    for name in ("open", "high", "low", "close", "volume", "vwap", "trades"):
        assert [float(row[name]) for row in rows] == [float(getattr(c, name)) for c in closed], name
    tags = ("exchange", "symbol", "timeframe", "infilled", "complete")
    assert [rows[0][name] for name in tags] == ["kraken", "BTC/USD", "1h", "false", "true"]


async def has_rows(influx: Influx, flux: str, count: int) -> bool:
    return len(await influx.query(flux)) >= count


# --- Node-RED ---------------------------------------------------------------------------------------------------------


async def test_node_red_appends_the_closed_candles_to_a_file(node, mosquitto_of, hours, tmp_path):
    broker = mosquitto_of()
    flow = json.loads(RECIPES["Node-RED"])
    (broker_node,) = (each for each in flow if each["type"] == "mqtt-broker")
    assert (broker_node["broker"], broker_node["port"]) == ("localhost", "1883")
    broker_node |= {"broker": "127.0.0.1", "port": str(broker.port)}
    (tmp_path / "flow.json").write_text(json.dumps(flow))
    settings = 'module.exports = {uiHost: "127.0.0.1", telemetry: {enabled: false}, editorTheme: {tours: false}}'
    (tmp_path / "settings.js").write_text(settings)
    command = ["node", node / "node-red" / "red.js", "-u", tmp_path, "-s", tmp_path / "settings.js"]
    command += ["-p", str(free_port()), tmp_path / "flow.json"]
    some = [msgspec.structs.replace(hours[0], closed=False), *hours[1:40]]
    out = tmp_path / "candles.jsonl"
    async with publishing(broker.url, some), running(*command, folder=tmp_path):
        await until(lambda: out.exists() and out.read_text().count("\n") >= 39, 60, functools.partial(log_of, tmp_path))
    found = sorted((json.loads(line) for line in out.read_text().split("\n") if line), key=lambda c: c["open_time"])
    assert [c["open_time"] for c in found] == [rfc3339(c.open_time) for c in hours[1:40]]
    for name in ("open", "high", "low", "close", "volume", "vwap", "trades"):
        assert [c[name] for c in found] == [float(getattr(c, name)) for c in hours[1:40]]


# --- lightweight-charts -----------------------------------------------------------------------------------------------


def test_lightweight_charts_shows_the_candles(node, hours, tmp_path):
    some = [*hours[:300], msgspec.structs.replace(hours[300], closed=False)]
    module = "lightweight-charts.standalone.production.mjs"
    imports = json.dumps({"imports": {"lightweight-charts": f"/{module}"}})
    page = (
        f'<!doctype html><body><script type="importmap">{imports}</script><script type="module">'
        f"{RECIPES['lightweight-charts']}; window.shown = series.data()</script>"
    )
    candles = b'{"symbol": "BTC/USD", "timeframe": "1h", "candles": [' + b",".join(map(encode_candle, some)) + b"]}"
    contents = {
        "/": ("text/html", page.encode()),
        f"/{module}": ("text/javascript", (node / "lightweight-charts" / "dist" / module).read_bytes()),
        "/candles/BTC-USD?timeframe=1h&limit=500": ("application/json", candles),
    }
    with serving(contents) as url, browser_on(url, tmp_path / "profile") as browser:
        browser.open()
        shown = browser.until(lambda: browser.run("return window.shown"), 30, "candles in the chart")
        # The browser asks for an icon that is not there.
        assert [text for text in browser.complaints() if "favicon" not in text] == []
    assert [candle["time"] for candle in shown] == [c.open_time for c in some]
    for name in ("open", "high", "low", "close"):
        assert [candle[name] for candle in shown] == [float(getattr(c, name)) for c in some]


@contextmanager
def serving(contents: Mapping[str, tuple[str, bytes]]) -> Iterator[str]:
    """An HTTP server with these contents by path; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = contents.get(self.path, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# --- what they run beside ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def publishing(url: str, candles: list[Candle]) -> AsyncIterator[None]:
    """Publishes the candles over and over, because a program that starts has not subscribed yet."""

    async def publish() -> None:
        async with MqttBus(MqttUrl.parse(url), client_id="publisher") as bus:
            while True:
                for candle in candles:
                    topic = Topics().candles(candle.symbol, candle.timeframe.value)
                    await bus.publish(topic, encode_candle(candle))
                await asyncio.sleep(2)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def running(*command: str | Path, folder: Path) -> AsyncIterator[None]:
    """A program in `folder`, and its output in `log` there; with its children, since `node` may be a wrapper."""
    with (folder / "log").open("wb") as log:
        environment = {**os.environ, "PATH": f"{NODE_BIN}:{os.environ['PATH']}"}
        process = await asyncio.create_subprocess_exec(
            *map(str, command), cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


def log_of(folder: Path) -> str:
    return (folder / "log").read_text(errors="replace")[-2000:]
