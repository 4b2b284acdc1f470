"""What the end-to-end tests ask of a running stack: compose, the bus, InfluxDB, the simulator's truth."""

import asyncio
import csv
import io
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ingress_common.bus import Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.model import FeedCondition, Presence
from ingress_common.payloads import decode_feed_state, decode_status
from ingress_common.topics import Topics

SERVICES = ("kraken-simulator", "kraken-gateway", "aggregator", "influx-writer", "admin-api")
SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "4h": 14_400, "1d": 86_400, "1w": 604_800}
TOPICS = Topics()
VIEWER = "change-me-viewer"
INFLUX_TOKEN = "change-me-influx-admin-token"
_ORG = "crypto-ingress"
_QUIET_SECONDS = 0.5


@dataclass(frozen=True)
class Owners:
    """Who says that he has which symbols."""

    aggregators: Mapping[str, tuple[str, ...]]
    feeds: Mapping[str, tuple[str, ...]]
    writers: tuple[str, ...]


class Stack:
    """The compose files of the demo as project `name`."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self._root = root
        # Port 0: any free one. A developer's .env is none of our business.
        ports = ("ADMIN_PORT", "MQTT_PORT", "INFLUX_PORT", "SIM_PORT", "SIM_CONTROL_PORT")
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG") if key in os.environ}
        self.environment = {**kept, "VERSION": name, **dict.fromkeys(ports, "0")}

    def compose(self, *arguments: str, seconds: float = 240, check: bool = True) -> str:
        """Run `docker compose`; fails with what it said."""
        files = ["-f", "docker-compose.yml", "-f", "deploy/demo.yml"]
        outcome = subprocess.run(
            ["docker", "compose", "--env-file", "/dev/null", "-p", self.name, *files, *arguments],
            cwd=self._root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and outcome.returncode:
            raise AssertionError(f"docker compose {' '.join(arguments)}: {outcome.stderr[-3000:]}")
        return outcome.stdout

    def containers(self) -> list[dict[str, Any]]:
        """What `docker inspect` tells of each container, also of those that have ended."""
        ids = self.compose("ps", "--all", "--quiet").split()
        told = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True)
        return json.loads(told.stdout)

    def address(self, service: str, port: int) -> str:
        """Where `port` of `service` is published: `127.0.0.1:32768`."""
        return self.compose("port", service, str(port)).strip()

    def scale(self, **replicas: int) -> None:
        """Change the numbers of replicas, as a user would."""
        numbers = [f"--scale={service.replace('_', '-')}={number}" for service, number in replicas.items()]
        self.compose("up", "--detach", *numbers)

    # The simulator

    @property
    def symbols(self) -> list[str]:
        """All symbols of the simulator."""
        return _json(f"http://{self.address('kraken-simulator', 8701)}/health")["symbols"]

    def truth(self, symbol: str, timeframe: str, start: float) -> dict[int, dict[str, Any]]:
        """The candles that traded since `start`, by open time."""
        address = self.address("kraken-simulator", 8701)
        url = f"http://{address}/truth/{symbol.replace('/', '-')}?timeframe={timeframe}&from={start:.0f}"
        return {_instant(candle["open_time"]): candle for candle in _json(url)["candles"]}

    # InfluxDB, past all of our code

    def stored(self, timeframe: str) -> dict[str, dict[int, dict[str, str]]]:
        """The rows of a bucket by symbol and open time."""
        query = (
            f'from(bucket: "candles_{timeframe}") |> range(start: 0, stop: 2100-01-01T00:00:00Z) '
            '|> filter(fn: (r) => r._measurement == "candle") '
            '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
        )
        request = urllib.request.Request(
            f"http://{self.address('influxdb', 8086)}/api/v2/query?org={_ORG}",
            data=query.encode(),
            headers={
                "Authorization": f"Token {INFLUX_TOKEN}",
                "Content-Type": "application/vnd.flux",
                "Accept": "application/csv",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read().decode()
        rows: dict[str, dict[int, dict[str, str]]] = {}
        # Each group of columns begins with a header of its own.
        for table in text.replace("\r\n", "\n").strip().split("\n\n"):
            for row in csv.DictReader(io.StringIO(table)):
                rows.setdefault(row["symbol"], {})[_instant(row["_time"])] = row
        return rows

    # The bus

    @property
    def mqtt_address(self) -> str:
        """The broker's published address."""
        return self.address("broker", 1883)

    def owners(self) -> Owners:
        """What the retained messages say now."""
        return asyncio.run(_owners(f"mqtt://viewer:{VIEWER}@{self.mqtt_address}"))


async def _owners(url: str) -> Owners:
    retained: dict[str, bytes] = {}
    async with MqttBus(url, client_id="") as bus:
        await bus.subscribe(TOPICS.status("+", "+"), TOPICS.feed("+"))
        events = bus.events()
        while True:
            try:
                async with asyncio.timeout(_QUIET_SECONDS):
                    event = await anext(events)
            except TimeoutError:
                break
            if isinstance(event, Message):
                retained[event.topic] = event.payload
                event.ack()
    statuses = [decode_status(text) for topic, text in retained.items() if "/status/" in topic and text]
    online = [status for status in statuses if status.state is Presence.ONLINE]
    feeds = [decode_feed_state(text) for topic, text in retained.items() if "/feed/" in topic and text]
    return Owners(
        {s.instance: tuple(s.details["symbols"]) for s in online if s.service == "aggregator"},
        {f.feed: tuple(f.symbols) for f in feeds if f.state is FeedCondition.LIVE},
        tuple(s.instance for s in online if s.service == "influx-writer"),
    )


def differences(stack: Stack) -> list[str]:
    """How the closed candles in InfluxDB differ from the truth: holes, wrong numbers, trades that nobody made."""
    found = []
    for timeframe, seconds in SECONDS.items():
        for symbol, rows in stack.stored(timeframe).items():
            closed = {at: row for at, row in rows.items() if row["closed"] == "true"}
            first, last = min(closed), max(closed)
            truth = stack.truth(symbol, timeframe, first)
            for open_time in range(first, last + 1, seconds):
                what = f"{symbol} {timeframe} {datetime.fromtimestamp(open_time, UTC):%F %T}"
                row, true = closed.get(open_time), truth.get(open_time)
                if row is None:
                    found.append(f"{what}: not there, traded: {true is not None}")
                elif true is None and row["trades"] != "0":
                    found.append(f"{what}: expected no trades, got {row['trades']}")
                elif true is not None and (wrong := _wrong_fields(row, true)):
                    found.append(f"{what}: {wrong}, revision {row['revision']}")
    return found


def _wrong_fields(row: Mapping[str, str], true: Mapping[str, Any]) -> str:
    prices = [name for name in ("open", "high", "low", "close") if float(row[name]) != float(true[name])]
    if abs(float(row["volume"]) - float(true["volume"])) > 1e-9 * max(1.0, float(true["volume"])):
        prices.append("volume")
    if int(row["trades"]) != true["trades"]:
        prices.append("trades")
    return ", ".join(f"{name}: expected {true[name]}, got {row[name]}" for name in prices)


def until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    """Wait for `condition`; fails with `what`, and what it gave last."""
    deadline = time.monotonic() + seconds
    while not (outcome := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"expected {what} within {seconds:.0f} s, got {outcome}")
        time.sleep(0.5)


def await_closed_minute(stack: Stack, moment: float) -> None:
    """Wait until the minute of `moment` (unix seconds) is in the store, closed, for every symbol."""
    minute = int(moment // 60 * 60)
    symbols = set(stack.symbols)

    def there() -> bool:
        rows = stack.stored("1m")
        return all(rows.get(symbol, {}).get(minute, {}).get("closed") == "true" for symbol in symbols)

    until(there, minute + 60 - time.time() + 45, f"the closed candles of {datetime.fromtimestamp(minute, UTC):%T}")


def _json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read(), parse_float=Decimal)


def _instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
