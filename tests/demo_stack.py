"""The demo stack for tests: Compose, bus, InfluxDB, and the simulator's truth."""

import asyncio
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import influx_rows
from ingress_common.bus import Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.model import FeedCondition, InstanceState
from ingress_common.payloads import decode_feed_state, decode_status
from ingress_common.topics import Topics
from servers import InfluxPlace, docker_has

ROOT = Path(__file__).resolve().parents[1]
FILES = ("docker-compose.yml", "deploy/demo.yml")
PORTS = {
    "ADMIN_PORT": ("admin-api", 8000),
    "MQTT_PORT": ("broker", 1883),
    "INFLUX_PORT": ("influxdb", 8086),
    "SIM_PORT": ("kraken-simulator", 8700),
    "SIM_CONTROL_PORT": ("kraken-simulator", 8701),
}
"""The variables of the published ports, and the ports of the containers."""
SERVICES = ("kraken-simulator", "kraken-gateway", "aggregator", "influx-writer", "admin-api")
SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "4h": 14_400, "1d": 86_400, "1w": 604_800}
TOPICS = Topics()
VIEWER = "change-me-viewer"
INFLUX_TOKEN = "change-me-influx-admin-token"
_ORG = "crypto-ingress"
_INACTIVITY_SECONDS = 0.5
_BASE_IMAGES = ("python:3.11-slim-bookworm", "eclipse-mosquitto:2", "influxdb:2.7")


def why_no_stack() -> str:
    """Why this machine cannot run the stack; empty if it can."""
    if shutil.which("docker") is None:
        return "there is no docker command on the PATH"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if outcome.returncode:
            return f"{' '.join(command)}: {outcome.stderr.strip() or outcome.stdout.strip()}"
    lacking = [image for image in _BASE_IMAGES if not docker_has(image)]
    return f"cannot get {', '.join(lacking)}" if lacking else ""


@dataclass(frozen=True)
class Owners:
    """The symbols that each instance reports to own."""

    aggregators: Mapping[str, tuple[str, ...]]
    feeds: Mapping[str, tuple[str, ...]]
    writers: tuple[str, ...]


class Stack:
    """The compose files of the demo, and `files` over them, as project `name`, with `settings` in the environment."""

    def __init__(self, name: str, files: Sequence[str] = (), settings: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._files = [argument for file in (*FILES, *files) for argument in ("-f", file)]
        # Port 0: any free one. A developer's .env is ignored.
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG") if key in os.environ}
        self.environment = {**kept, "VERSION": name, **dict.fromkeys(PORTS, "0"), **(settings or {})}

    def compose(self, *arguments: str, seconds: float = 240, check: bool = True) -> str:
        """Run `docker compose`; fails with its output."""
        outcome = subprocess.run(
            ["docker", "compose", "--env-file", "/dev/null", "-p", self.name, *self._files, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and outcome.returncode:
            raise AssertionError(f"docker compose {' '.join(arguments)}: {outcome.stderr[-3000:]}")
        return outcome.stdout

    def build(self) -> None:
        """Build the images."""
        self.compose("build", "--quiet", seconds=600)

    def start(self, seconds: int) -> None:
        """Start everything and wait until it is healthy, at most `seconds`."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", str(seconds))

    def remove(self, log: Path) -> None:
        """Remove containers, volumes and images; their output goes to `log`."""
        log.write_text(self.compose("logs", "--no-color", check=False))
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "15", check=False)
        images = [f"crypto-ingress/{service}:{self.name}" for service in SERVICES]
        subprocess.run(["docker", "rmi", "--force", *images], check=False, capture_output=True)

    def containers(self) -> list[dict[str, Any]]:
        """The output of `docker inspect` for each container, including ended ones."""
        ids = self.compose("ps", "--all", "--quiet").split()
        inspected = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True)
        return json.loads(inspected.stdout)

    def address(self, service: str, port: int) -> str:
        """The published address of `port` of `service`: `127.0.0.1:32768`."""
        for variable, published in PORTS.items():
            if published == (service, port) and self.environment[variable] != "0":
                return f"127.0.0.1:{self.environment[variable]}"
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
        """The candles with trades since `start`, by open time."""
        address = self.address("kraken-simulator", 8701)
        url = f"http://{address}/truth/{symbol.replace('/', '-')}?timeframe={timeframe}&from={start:.0f}"
        return {_instant(candle["open_time"]): candle for candle in _json(url)["candles"]}

    # InfluxDB, past all of our code

    def stored(self, timeframe: str) -> dict[str, dict[int, dict[str, str]]]:
        """The rows of a bucket by symbol and open time."""
        rows: dict[str, dict[int, dict[str, str]]] = {}
        for row in self.stored_rows(timeframe):
            rows.setdefault(row["symbol"], {})[_instant(row["_time"])] = row
        return rows

    def stored_rows(self, timeframe: str) -> list[dict[str, str]]:
        """The rows of a bucket, one for each time of each series."""
        return list(influx_rows.stored_rows(self._influx, _ORG, timeframe))

    def query(self, flux: str, seconds: float = 30) -> Iterator[dict[str, str]]:
        """Query InfluxDB in Flux; OSError if it does not respond."""
        return influx_rows.query(self._influx, _ORG, flux, seconds)

    @property
    def _influx(self) -> InfluxPlace:
        return InfluxPlace(f"influxdb://{self.address('influxdb', 8086)}", INFLUX_TOKEN)

    # The bus

    @property
    def mqtt_address(self) -> str:
        """The broker's published address."""
        return self.address("broker", 1883)

    def owners(self) -> Owners:
        """The current retained messages."""
        return asyncio.run(_owners(f"mqtt://viewer:{VIEWER}@{self.mqtt_address}"))


async def _owners(url: str) -> Owners:
    retained: dict[str, bytes] = {}
    async with MqttBus(url, client_id="") as bus:
        await bus.subscribe(TOPICS.status("+", "+"), TOPICS.feed("+"))
        events = bus.events()
        while True:
            try:
                async with asyncio.timeout(_INACTIVITY_SECONDS):
                    event = await anext(events)
            except TimeoutError:
                break
            if isinstance(event, Message):
                retained[event.topic] = event.payload
                event.ack()
    statuses = [decode_status(text) for topic, text in retained.items() if "/status/" in topic and text]
    online = [status for status in statuses if status.state is InstanceState.ONLINE]
    feeds = [decode_feed_state(text) for topic, text in retained.items() if "/feed/" in topic and text]
    return Owners(
        {s.instance: tuple(s.details["symbols"]) for s in online if s.service == "aggregator"},
        {f.feed: tuple(f.symbols) for f in feeds if f.state is FeedCondition.LIVE},
        tuple(s.instance for s in online if s.service == "influx-writer"),
    )


def differences(stack: Stack) -> list[str]:
    """The differences of InfluxDB's closed candles from the truth: gaps, wrong numbers, invented trades."""
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
    """Wait for `condition`; fails with `what` and the last result."""
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
