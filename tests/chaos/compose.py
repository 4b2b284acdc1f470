"""The demo's containers under faults."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaos.clocks import Clocks
from chaos.form import End, SkippedError
from chaos.judge import StoredRow
from chaos.kraken import Kraken, markets
from chaos.script import SERVICES, Fault
from demo_stack import PORTS, VIEWER, Stack
from servers import free_port

_HEALTHY_SECONDS = 150
_STOP_SECONDS = 15
_QUERY_SECONDS = 5.0
_FOLDER = "tests/chaos"


class ComposeForm:
    """The Compose files of the demo as project `name`, with `symbols` markets; its own files go into `folder`."""

    def __init__(
        self, name: str, folder: Path, *, symbols: int, seed: int, activity: float, connection_limit: int, clocks: bool
    ) -> None:
        self.name = name
        self._folder = folder
        # Fixed ports, so that they stay after a restart.
        self._ports = {port: free_port() for port in PORTS}
        settings = {port: str(number) for port, number in self._ports.items()}
        settings |= {
            "SIM_SYMBOLS": markets(symbols),
            "SIM_SEED": str(seed),
            "SIM_ACTIVITY": str(activity),
            "SIM_CONNECTION_LIMIT": str(connection_limit),
        }
        files = [f"{_FOLDER}/chaos.yml"]
        self._clocks: Clocks | None = None
        if clocks:
            self._clocks = Clocks(folder / "clocks", SERVICES)
            settings["CHAOS_CLOCKS"] = str(self._clocks.folder)
            files.append(f"{_FOLDER}/clock.yml")
        self._stack = Stack(name, files, settings)
        self.kraken = Kraken(f"http://127.0.0.1:{self._ports['SIM_CONTROL_PORT']}")
        self._doubles = 0
        self._scaling = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Build and start it."""
        try:
            await asyncio.to_thread(self._stack.build)
            await asyncio.to_thread(self._stack.start, _HEALTHY_SECONDS)
        except BaseException:
            await self._remove()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove it with its volumes and images."""
        await self._remove()

    async def _remove(self) -> None:
        await self.kraken.close()
        for container in self._all("chaos.double=1"):
            self._docker("rm", "--force", "--volumes", container)
        for container in self._containers(None):
            # A frozen container would not receive the signal to stop.
            self._signal(container, signal.SIGCONT)
        await asyncio.to_thread(self._stack.remove, self._folder / "containers.log")

    def broker_url(self) -> str | None:
        """The broker's URL on its fixed published port."""
        return f"mqtt://viewer:{VIEWER}@127.0.0.1:{self._ports['MQTT_PORT']}"

    # --- faults

    async def begin(self, fault: Fault) -> End:
        """Make a fault of the containers."""
        makers: dict[str, Callable[[Fault], End]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "stop": self._stop,
            "cut": self._cut,
            "scale": self._scale,
            "double": self._double,
            "clock": self._clock,
        }
        lock = self._scaling if fault.kind == "scale" else asyncio.Lock()
        async with lock:
            return await asyncio.to_thread(makers[fault.kind], fault)

    def _kill(self, fault: Fault) -> End:
        container = self._one_of(fault.target, fault.replica)
        self._docker("kill", container)
        return _in_thread(lambda: self._docker("start", container))

    def _stop(self, fault: Fault) -> End:
        container = self._one_of(fault.target, fault.replica)
        self._docker("stop", "--time", str(_STOP_SECONDS), container)
        return _in_thread(lambda: self._docker("start", container))

    def _freeze(self, fault: Fault) -> End:
        container = self._one_of(fault.target, fault.replica)
        _expect_root("freezing a container")
        frozen = self._signal(container, signal.SIGSTOP)
        return _in_thread(lambda: _signal_all(frozen, signal.SIGCONT))

    def _cut(self, fault: Fault) -> End:
        _expect_root("cutting a network")
        for tool in ("nsenter", "iptables"):
            if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
                raise SkippedError(f"no {tool} on this machine")
        one, other = fault.target.split("~")
        near, far = self._one_of(one, fault.replica), self._one_of(other, 0)
        process, address = self._process(near), self._address(far)
        if not process or not address:
            raise SkippedError(f"{near} or {far} does not run")
        rules = []
        if fault.direction in ("both", "in"):
            rules.append(["INPUT", "-s", address, "-j", "DROP"])
        if fault.direction in ("both", "out"):
            rules.append(["OUTPUT", "-d", address, "-j", "DROP"])
        for rule in rules:
            _rule(process, "-I", rule)

        def mend() -> None:
            # The rules of an ended container are gone with it.
            if self._process(near) == process:
                for rule in rules:
                    _rule(process, "-D", rule)

        return _in_thread(mend)

    def _scale(self, fault: Fault) -> End:
        self._stack.compose(
            *("up", "--detach", "--no-deps", "--no-recreate", f"--scale={fault.target}={fault.replicas}", fault.target),
            check=False,
        )
        return _in_thread(lambda: None)

    def _double(self, fault: Fault) -> End:
        container = self._one_of(fault.target, fault.replica)
        inspected = self._inspect(container)
        if inspected is None:
            raise SkippedError(f"{container} is not there")
        self._doubles += 1
        name = f"{self.name}-double-{self._doubles}"
        environment = [
            f"--env={setting}" for setting in inspected["Config"]["Env"] if not setting.startswith("INSTANCE_ID=")
        ]
        volumes = [f"--volume={mount['Source']}:{mount['Destination']}:ro" for mount in inspected["Mounts"]]
        network = next(iter(inspected["NetworkSettings"]["Networks"]))
        self._docker(
            *("run", "--detach", "--init", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--memory=512m"),
            *(f"--name={name}", f"--network={network}", "--label=chaos.double=1", f"--label=chaos.project={self.name}"),
            *(*environment, f"--env=INSTANCE_ID={container}", *volumes, inspected["Config"]["Image"]),
        )

        def remove() -> None:
            logs = self._docker("logs", name, both=True)
            with (self._folder / "doubles.log").open("a") as log:
                log.write(f"--- {name}, a second {container}\n{logs}")
            self._docker("rm", "--force", "--volumes", name)

        return _in_thread(remove)

    def _clock(self, fault: Fault) -> End:
        clocks = self._clocks
        if clocks is None:
            raise SkippedError("this run was started without clocks that jump")
        clocks.set(fault.target, fault.offset)
        return _in_thread(lambda: clocks.set(fault.target, 0))

    # --- docker

    def _containers(self, service: str | None) -> list[str]:
        """The names of the project's containers, including stopped ones."""
        labels = [f"com.docker.compose.project={self.name}"]
        if service is not None:
            labels.append(f"com.docker.compose.service={service}")
        return self._all(*labels)

    def _all(self, *labels: str) -> list[str]:
        if "chaos.double=1" in labels:
            labels = (*labels, f"chaos.project={self.name}")
        filters = [f"--filter=label={label}" for label in labels]
        return sorted(self._docker("ps", "--all", "--format={{.Names}}", *filters).split())

    def _one_of(self, service: str, replica: int) -> str:
        names = self._containers(service)
        if not names:
            raise SkippedError(f"no container of {service} is there")
        return names[replica % len(names)]

    def _inspect(self, container: str) -> dict[str, Any] | None:
        inspected = json.loads(self._docker("inspect", container) or "[]")
        return inspected[0] if inspected else None

    def _process(self, container: str) -> int:
        inspected = self._inspect(container)
        return int(inspected["State"]["Pid"]) if inspected else 0

    def _address(self, container: str) -> str:
        inspected = self._inspect(container)
        networks = inspected["NetworkSettings"]["Networks"].values() if inspected else ()
        return next((network["IPAddress"] for network in networks), "")

    def _signal(self, container: str, number: signal.Signals) -> list[int]:
        """Send a signal to every process of a container."""
        processes = [int(line) for line in self._docker("top", container, "-eo", "pid").split()[1:]]
        _signal_all(processes, number)
        return processes

    def _docker(self, *arguments: str, both: bool = False) -> str:
        """Run docker. A refusal is no error, because another fault may interfere; the candles decide."""
        outcome = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
        if outcome.returncode:
            with (self._folder / "docker.log").open("a") as log:
                log.write(f"{datetime.now(UTC):%T} docker {' '.join(arguments[:3])}: {outcome.stderr.strip()}\n")
        return outcome.stdout + outcome.stderr if both else outcome.stdout

    # --- what is there

    async def newest_closed(self) -> dict[str, int]:
        """The open time of each symbol's newest closed 1m candle, from the last 15 minutes of InfluxDB."""
        query = (
            'from(bucket: "candles_1m") |> range(start: -15m) '
            '|> filter(fn: (r) => r._measurement == "candle" and r._field == "closed" and r._value == true) '
            '|> keep(columns: ["symbol", "_time", "_value"]) |> group(columns: ["symbol"]) |> max(column: "_time")'
        )
        rows = await asyncio.to_thread(lambda: list(self._stack_query(query)))
        return {row["symbol"]: _instant(row["_time"]) for row in rows}

    def _stack_query(self, query: str) -> list[dict[str, str]]:
        return list(self._stack.query(query, _QUERY_SECONDS))

    async def rows(self, timeframe: str) -> list[StoredRow]:
        """Every row of the timeframe's bucket."""
        return [row_of_columns(row, timeframe) for row in await asyncio.to_thread(self._stack.stored_rows, timeframe)]

    async def deaths(self) -> int:
        """How often Docker has restarted a container that ended by itself."""
        inspected = [self._inspect(container) for container in self._containers(None)]
        return sum(container["RestartCount"] for container in inspected if container)

    async def save_logs(self, folder: Path) -> None:
        """Write the log of each service into `folder`."""
        for service in (*SERVICES, "broker", "influxdb", "kraken-simulator"):
            logs = await asyncio.to_thread(
                self._stack.compose, "logs", "--no-color", "--timestamps", service, check=False
            )
            (folder / f"{service}.log").write_text(logs)


def row_of_columns(row: dict[str, str], timeframe: str) -> StoredRow:
    """A row of InfluxDB, pivoted: its columns by name."""
    tags = sorted(f"{name}={value}" for name, value in row.items() if name and name not in _NO_TAGS)
    numbers = {name: Decimal(row[name] or 0) for name in ("open", "high", "low", "close", "volume", "vwap")}
    return StoredRow(
        symbol=row["symbol"],
        timeframe=timeframe,
        open_time=_instant(row["_time"]),
        trades=int(row["trades"] or 0),
        closed=row["closed"] == "true",
        infilled=row["infilled"] == "true",
        complete={"true": True, "false": False}.get(row.get("complete", "")),
        revision=int(row["revision"] or 0),
        source=row.get("source", ""),
        at=_moment_of(row.get("at", "")),
        series=",".join(tags),
        **numbers,
    )


_NO_TAGS = frozenset(
    {
        *("result", "table", "_start", "_stop", "_time", "_measurement"),
        *("open", "high", "low", "close", "volume", "vwap", "trades"),
        *("closed", "infilled", "revision", "complete", "source", "at"),
    }
)


def _moment_of(microseconds: str) -> str:
    return f"{datetime.fromtimestamp(int(microseconds) / 1e6, UTC):%T.%f}" if microseconds else ""


def _instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _in_thread(step: Callable[[], object]) -> End:
    async def end() -> None:
        await asyncio.to_thread(step)

    return end


def _expect_root(what: str) -> None:
    if os.geteuid() != 0:
        raise SkippedError(f"{what} needs root")


def _signal_all(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        # An ended process does not need it.
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _rule(process: int, action: str, rule: list[str]) -> None:
    outcome = subprocess.run(
        ["nsenter", "--target", str(process), "--net", "iptables", "-w", action, *rule],
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if outcome.returncode and action == "-I":
        raise SkippedError(f"iptables: {outcome.stderr.strip()}")
