"""influx-writer and admin-api on a real InfluxDB."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from memory_broker import MemoryBroker, MemoryBus
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from admin_api import AdminSettings
from admin_api.app import AdminApi
from ingress_common.bus.mqtt import MqttBus
from ingress_common.model import Candle, FeedCondition, FeedState, Source
from ingress_common.payloads import encode_candle, encode_feed_state
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import Topics
from ingress_store import InfluxAccess, InfluxStore, Retention, backfill_flux
from servers import free_port
from waiting import until

FOREVER = Retention(dict.fromkeys(TIMEFRAMES), ticks=None)
START = 1_708_819_200  # 2024-02-25T00:00:00Z
SYMBOL = "BTC/USDC"
TOKEN = "s3cret"


def minute(number: int, price: str = "100", **changes: Any) -> Candle:
    p = Decimal(price)
    open_time = START + 60 * number
    plain = Candle(
        SYMBOL, Timeframe.M1, open_time, p, p, p, p, Decimal(2), p, 3, True, False, True, 0, Source.WS, open_time + 61.0
    )
    return replace(plain, **changes)


@asynccontextmanager
async def admin(store: InfluxStore, clock: Callable[[], float] = time.time) -> AsyncIterator[httpx.AsyncClient]:
    """The service, and a client of it."""
    broker = MemoryBroker()
    service = AdminApi(
        AdminSettings(_env_file=None, store_url="sqlite:///unused", instance_id="a1", http_port=0, admin_token=TOKEN),
        bus=MemoryBus(broker, client_id="admin"),
        dead_letter_bus=MemoryBus(broker, client_id="admin-letters"),
        store=store,
        registry=CollectorRegistry(),
        started_at=clock(),
        clock=clock,
    )
    task = asyncio.create_task(service.run())
    try:
        await until(lambda: service.health().ready or task.done())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=30) as http:
            yield http
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_bootstrap_over_http_needs_its_token_and_makes_one_set(influx_place):
    access = InfluxAccess(f"test-{uuid4().hex[:12]}", influx_place.token)
    async with admin(InfluxStore(influx_place.store_url, access)) as http:

        async def complete() -> bool:
            return (await http.get("/bootstrap")).json()["complete"]

        await until(complete)
        before = (await http.get("/bootstrap")).json()
        kinds = [entry["kind"] for entry in before["is"]]
        assert [kinds.count(kind) for kind in ("organization", "bucket", "task", "token")] == [1, 8, 6, 2]
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert (await http.post("/bootstrap", headers=headers)).status_code == 401
        assert (await http.get("/bootstrap")).json() == before
        good = {"Authorization": f"Bearer {TOKEN}"}
        answers = await asyncio.gather(*(http.post("/bootstrap", headers=good) for _ in range(10)))
        assert [answer.json()["changes"] for answer in answers] == [[]] * 10
        assert (await http.get("/bootstrap")).json() == before
        assert influx_place.token not in (await http.get("/bootstrap")).text
        health = (await http.get("/health")).json()
        assert next(check for check in health["checks"] if check["name"] == "tasks")["ok"]
        metrics = (await http.get("/metrics")).text
        assert 'ingress_task_ok{task="downsample_5m"} 1.0' in metrics


@asynccontextmanager
async def bootstrapped(
    place, access: InfluxAccess | None = None
) -> AsyncIterator[tuple[InfluxStore, httpx.AsyncClient, str]]:
    """A store with all that it needs, in an organisation of its own; the server's API; the organisation's id."""
    access = access or InfluxAccess(f"test-{uuid4().hex[:12]}", place.token)
    url = place.url.replace("influxdb", "http", 1)
    headers = {"Authorization": f"Token {place.token}"}
    async with (
        InfluxStore(place.store_url, access) as store,
        httpx.AsyncClient(base_url=url, headers=headers) as influx,
    ):
        await store.bootstrap()
        org = (await influx.get("/api/v2/orgs", params={"org": access.org})).json()["orgs"][0]["id"]
        yield store, influx, org


async def test_renamed_organisation_is_recreated_only_on_request(influx_place):
    access = InfluxAccess(f"test-{uuid4().hex[:12]}", influx_place.token)
    async with (
        bootstrapped(influx_place, access) as (_, influx, org),
        admin(InfluxStore(influx_place.store_url, access)) as http,
    ):

        async def store_check() -> dict[str, Any]:
            checks = (await http.get("/health/ready")).json()["checks"]
            return next(check for check in checks if check["name"] == "store")

        async def gone() -> bool:
            return "is gone" in (await store_check())["detail"]

        async def ok() -> bool:
            return (await store_check())["ok"]

        async def named() -> list[str]:
            found = (await influx.get("/api/v2/orgs", params={"limit": 100})).json()["orgs"]
            return [entry["id"] for entry in found if entry["name"] == access.org]

        await influx.patch(f"/api/v2/orgs/{org}", json={"name": f"{access.org}-renamed"})
        await until(gone)
        assert await named() == []
        await influx.patch(f"/api/v2/orgs/{org}", json={"name": access.org})
        await until(ok)
        assert await named() == [org]
        await influx.patch(f"/api/v2/orgs/{org}", json={"name": f"{access.org}-renamed"})
        await until(gone)
        answer = await http.post("/bootstrap", headers={"Authorization": f"Bearer {TOKEN}"})
        assert f"created organization {access.org}" in answer.json()["changes"]
        await until(ok)
        assert len(await named()) == 1


async def test_a_task_that_is_deleted_or_switched_off_turns_health_red(influx_place):
    async with bootstrapped(influx_place) as (store, influx, org):
        tasks = (await influx.get("/api/v2/tasks", params={"orgID": org})).json()["tasks"]
        ids = {task["name"]: task["id"] for task in tasks}
        await influx.patch(f"/api/v2/tasks/{ids['downsample_1d']}", json={"status": "inactive"})
        states = {state.name: state for state in await store.tasks()}
        assert not states["downsample_1d"].active
        await influx.delete(f"/api/v2/tasks/{ids['downsample_1d']}")
        states = {state.name: state for state in await store.tasks()}
        assert not states["downsample_1d"].exists


async def test_failed_task_reports_its_error(influx_place):
    async with bootstrapped(influx_place) as (store, influx, org):
        bucket = (await influx.get("/api/v2/buckets", params={"orgID": org, "name": "candles_1m"})).json()["buckets"][0]
        tasks = (await influx.get("/api/v2/tasks", params={"orgID": org, "name": "downsample_5m"})).json()["tasks"]
        await influx.delete(f"/api/v2/buckets/{bucket['id']}")
        await influx.post(f"/api/v2/tasks/{tasks[0]['id']}/runs", json={})

        async def failed() -> bool:
            return any(state.error and "candles_1m" in state.error for state in await store.tasks())

        await until(failed)


@pytest.mark.parametrize("by", ["aggregator", "tasks"])
async def test_no_gap_where_a_pair_did_not_trade_from_0215_to_0220(influx_place, by):
    """Asked for at 04:15: the last 4 h 15 min of 15m candles, and the current one."""
    access = InfluxAccess(f"test-{uuid4().hex[:12]}", influx_place.token)
    flat = {"volume": Decimal(0), "trades": 0, "infilled": True, "source": Source.INFILL}
    rows = [minute(n, "107", **flat) if 135 <= n < 140 else minute(n, str(100 + n // 15)) for n in range(255)]
    async with InfluxStore(influx_place.store_url, access, retention=FOREVER) as store:
        await store.bootstrap()
        await store.write(rows, [])
        if by == "tasks":
            for timeframe in TIMEFRAMES[1:3]:
                await store.query(backfill_flux(timeframe, START, START + 255 * 60))
        else:
            quarters = [
                minute(
                    15 * n,
                    str(100 + n),
                    timeframe=Timeframe.M15,
                    volume=Decimal(20 if n == 9 else 30),
                    trades=30 if n == 9 else 45,
                    source=Source.ROLLUP,
                )
                for n in range(17)
            ]
            await store.write(quarters, [])
        current = minute(255, "117", timeframe=Timeframe.M15, closed=False)
        await store.write([current], [])
        ahead = START + 255 * 60 + 30 - time.time()
        async with admin(
            InfluxStore(influx_place.store_url, access, retention=FOREVER), lambda: time.time() + ahead
        ) as http:
            query = {"timeframe": "15m", "from": rfc3339(START), "to": rfc3339(START + 256 * 60)}
            found = (await http.get("/candles/BTC-USDC", params=query)).json()["candles"]
        assert [c["open_time"] for c in found] == [rfc3339(START + 900 * n) for n in range(18)]
        assert [c["close"] for c in found] == [100 + n for n in range(18)]
        assert [c["closed"] for c in found] == [True] * 17 + [False]
        assert (found[9]["trades"], found[9]["volume"], found[9]["infilled"]) == (30, 20, False)


async def retries(port: int) -> float:
    """How often the writer has retried a write."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    (line,) = (line for line in text.splitlines() if line.startswith("ingress_writer_retries_total"))
    return float(line.split()[-1])


async def retried(port: int, due: float) -> bool:
    return await retries(port) >= due


async def test_a_writer_loses_nothing_when_influxdb_is_killed_and_stopped_under_load(influx_of, mosquitto_of, tmp_path):
    # The shared configuration writes the whole queue to the disk at every message, which is slow once it is long.
    influx, mosquitto = influx_of(), mosquitto_of("allow_anonymous true\nautosave_on_changes false\n")
    access = InfluxAccess("load", influx.place.token)
    async with InfluxStore(influx.place.store_url, access, retention=FOREVER) as store:
        await store.bootstrap()
    symbols = [f"S{n}/USD" for n in range(100)]
    sent, port = 0, free_port()
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "MQTT_URL": mosquitto.url,
        "STORE_URL": influx.place.url,
        "INFLUX_ORG": "load",
        "INFLUX_TOKEN": influx.place.token,
        "RETENTION": "1m=forever,ticks=forever",
        "HTTP_PORT": str(port),
        "INSTANCE_ID": "w1",
    }
    log = (tmp_path / "writer.log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "influx_writer"], env=environment, stderr=log, cwd=tmp_path)  # noqa: ASYNC220
    try:
        async with MqttBus(mosquitto.url, client_id="load", outbound_limit=5000) as bus:
            topics = Topics()
            feed = FeedState("f", FeedCondition.LIVE, time.time(), tuple(symbols))
            await bus.publish(topics.feed("f"), encode_feed_state(feed), retain=True)

            async def send(minutes: int) -> None:
                nonlocal sent
                for _ in range(minutes):
                    handed = [
                        await bus.publish(
                            topics.candles(symbol, Timeframe.M1), encode_candle(minute(sent, symbol=symbol)), qos=1
                        )
                        for symbol in symbols
                    ]
                    for delivery in handed:
                        await delivery
                    sent += 1

            async with InfluxStore(influx.place.store_url, access) as store:

                async def stored(symbol: str = symbols[-1]) -> int:
                    return len(await store.candles(symbol, Timeframe.M1, limit=100_000))

                async def some(minutes: int) -> bool:
                    # Published before the writer had subscribed is published to nobody.
                    await send(1)
                    return await stored() >= minutes

                await until(lambda: some(3))
                first = (await store.candles(symbols[-1], Timeframe.M1, limit=1))[0].open_time
                normal = memory(process.pid)
                begun = sent
                sending = asyncio.create_task(send(30))
                await until(lambda: sent > begun + 2, every=0.005)
                influx.kill()
                await sending
                await send(200)
                # The writer's memory must not grow while it retries.
                due = await retries(port) + 6
                await until(lambda: retried(port, due), 60)
                during = memory(process.pid)
                influx.start()
                sending = asyncio.create_task(send(30))
                await sending
                influx.stop()
                await send(30)
                influx.start()
                expected = [first + 60 * n for n in range((START + 60 * sent - first) // 60)]

                incomplete = set(symbols)

                async def everything() -> bool:
                    for symbol in sorted(incomplete):
                        try:
                            rows = await store.candles(symbol, Timeframe.M1, start=first, limit=100_000)
                        except Exception:  # noqa: BLE001 - it is still starting
                            return False
                        if [c.open_time for c in rows] != expected:
                            return False
                        incomplete.remove(symbol)
                    return True

                def found() -> str:
                    log = (tmp_path / "writer.log").read_text()
                    return f"{len(expected)} candles of each symbol, incomplete: {sorted(incomplete)}\n{log[-8000:]}"

                await until(everything, 180, found)
                assert during - normal < 50 * 1024
                assert memory(process.pid) - normal < 50 * 1024
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, (tmp_path / "writer.log").read_text()[-2000:]
    finally:
        process.kill()
        process.wait()
        log.close()


def memory(pid: int) -> int:
    """Resident kilobytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError(f"no process {pid}")
