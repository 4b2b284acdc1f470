"""One run: the simulator, every client and ours side by side, the script of faults, and the scores."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx

from command import Running
from peers.score import Observation, Score, Truth, score
from peers.script import SYMBOLS, Script
from servers import free_port

FOLDER = Path(__file__).parent
PYTHON = FOLDER.parents[1] / ".venv-peers" / "bin" / "python"
"""The interpreter of the clients' virtual environment."""

_READY_SECONDS = 120
_SETTLE_SECONDS = 45
_AFTERWARDS_SECONDS = 240


@dataclass(frozen=True, slots=True)
class Peer:
    """A client: its script, the packages whose versions are shown, and whether it runs after the last minute."""

    name: str
    script: str
    packages: tuple[str, ...]
    afterwards: bool = False


PEERS = (
    Peer("ccxt.pro `watch_ohlcv`", "ccxt_ohlcv.py", ("ccxt",)),
    Peer("ccxt.pro `watch_trades`, `build_ohlcvc`", "ccxt_trades.py", ("ccxt",)),
    Peer("ccxt `fetch_ohlcv` every 5 s", "ccxt_rest.py", ("ccxt",)),
    Peer("python-kraken-sdk `SpotWSClient`", "kraken_sdk.py", ("python-kraken-sdk",)),
    Peer("freqtrade `download-data`, afterwards", "freqtrade_download.py", ("freqtrade", "ccxt"), afterwards=True),
)
OURS = "Crypto Ingress"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The scores by client, and the versions of the packages."""

    scores: Mapping[str, Score]
    versions: Mapping[str, str]


def versions() -> dict[str, str]:
    """The versions of the clients' packages."""
    names = sorted({package for peer in PEERS for package in peer.packages})
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    answer = subprocess.run([PYTHON, "-c", code, *names], check=True, capture_output=True, text=True)
    return dict(zip(names, answer.stdout.split(), strict=True))


async def run(script: Script, folder: Path, write_line: Callable[[str], None]) -> Outcome:
    """Run the script for all clients at once; logs go into `folder`."""
    port, control, admin = free_port(), free_port(), free_port()
    addresses = [f"ws://127.0.0.1:{port}/v2", f"http://127.0.0.1:{port}"]
    async with AsyncExitStack() as stack:
        simulator = Running(
            *("simulator", "kraken_simulator", "--port", port, "--control-port", control),
            *("--symbols", ",".join(SYMBOLS), "--rest-burst", 100, "--rest-rate", 20),
            folder=folder,
        )
        await stack.enter_async_context(simulator)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        truth_url = f"http://127.0.0.1:{control}"
        await _until(lambda: _answers(http, f"{truth_url}/health"), "the simulator")
        settings = {
            "SYMBOLS": ",".join(SYMBOLS),
            "KRAKEN_WS_URL": addresses[0],
            "KRAKEN_REST_URL": addresses[1],
            "STORE_URL": f"sqlite:///{folder / 'store.db'}",
            "HTTP_PORT": str(admin),
        }
        await stack.enter_async_context(Running("ours", "crypto_ingress", "run", folder=folder, **settings))
        seen: dict[str, list[Observation]] = {peer.name: [] for peer in PEERS} | {OURS: []}
        for peer in PEERS:
            if not peer.afterwards:
                await stack.enter_async_context(_client(peer, addresses, folder, seen[peer.name]))
        ours = f"http://127.0.0.1:{admin}"
        await _until(lambda: _answers(http, f"{ours}/health"), "Crypto Ingress to be healthy")
        await stack.enter_async_context(_stream(http, ours, seen[OURS]))
        await _until(lambda: _all_began(seen), f"the first candles of every client, see {folder}")
        first = (int(time.time()) // 60 + 1) * 60
        await _play(script, http, truth_url, first, write_line)
        end = first + script.minutes * 60
        await asyncio.sleep(max(0.0, end + _SETTLE_SECONDS - time.time()))
        await _add_stored(http, ours, seen[OURS], first)
        for peer in PEERS:
            if peer.afterwards:
                write_line(f"{peer.name} ...")
                await _run_afterwards(peer, addresses, folder, seen[peer.name])
        truth = {symbol: await _truth(http, truth_url, symbol, first) for symbol in SYMBOLS}
    scores = {name: score(found, truth, first, end) for name, found in seen.items()}
    return Outcome(scores, await asyncio.to_thread(versions))


async def _play(
    script: Script, http: httpx.AsyncClient, control: str, first: int, write_line: Callable[[str], None]
) -> None:
    for step in script.steps:
        await asyncio.sleep(max(0.0, first + step.after - time.time()))
        write_line(f"{step.after:.0f} s: {step.kind}, {step.meaning}")
        body = {"kind": step.kind, "seconds": step.seconds, **dict(step.more)}
        (await http.post(f"{control}/faults", json=body)).raise_for_status()


# -- clients ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _client(peer: Peer, addresses: Sequence[str], folder: Path, seen: list[Observation]) -> AsyncIterator[None]:
    process = await _start(peer, addresses, folder)
    task = asyncio.create_task(_collect(process, seen), name=peer.script)
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await task


async def _run_afterwards(peer: Peer, addresses: Sequence[str], folder: Path, seen: list[Observation]) -> None:
    process = await _start(peer, addresses, folder)
    try:
        async with asyncio.timeout(_AFTERWARDS_SECONDS):
            await _collect(process, seen)
    except TimeoutError:
        process.kill()
    await process.wait()


async def _start(peer: Peer, addresses: Sequence[str], folder: Path) -> asyncio.subprocess.Process:
    with (folder / f"{peer.script}.log").open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *(PYTHON, FOLDER / "clients" / peer.script, *addresses, *SYMBOLS),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=1_000_000,
        )


async def _collect(process: asyncio.subprocess.Process, seen: list[Observation]) -> None:
    while line := await process.stdout.readline():
        row = json.loads(line)
        seen.append(Observation(row["symbol"], row["open_time"], tuple(row["values"]), row["trades"], row["at"]))


@asynccontextmanager
async def _stream(http: httpx.AsyncClient, ours: str, seen: list[Observation]) -> AsyncIterator[None]:
    task = asyncio.create_task(_read_stream(http, ours, seen), name="peers.stream")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _read_stream(http: httpx.AsyncClient, ours: str, seen: list[Observation]) -> None:
    async with http.stream("GET", f"{ours}/stream", params={"timeframe": "1m"}, timeout=None) as answer:
        async for line in answer.aiter_lines():
            seen.extend(_candles(line))


def _candles(line: str) -> list[Observation]:
    """The candle of a line of the event stream, if it holds one."""
    if not line.startswith("data:") or '"open_time"' not in line:
        return []
    return [_observation(json.loads(line[5:]), time.time())]


async def _add_stored(http: httpx.AsyncClient, ours: str, seen: list[Observation], first: int) -> None:
    """The candles in our store at the end, which count like the other clients' last candles."""
    for symbol in SYMBOLS:
        path = f"{ours}/candles/{symbol.replace('/', '-')}"
        rows = (await http.get(path, params={"timeframe": "1m", "from": first, "limit": 1_000})).json()["candles"]
        seen += [_observation(row, time.time()) for row in rows]


def _observation(row: dict, at: float) -> Observation:
    values = tuple(float(row[name]) for name in ("open", "high", "low", "close", "volume"))
    return Observation(row["symbol"], _seconds(row["open_time"]), values, row["trades"], at, row["closed"])


async def _truth(http: httpx.AsyncClient, control: str, symbol: str, first: int) -> Truth:
    answer = await http.get(f"{control}/truth/{symbol.replace('/', '-')}", params={"from": first - 86_400})
    names = ("open", "high", "low", "close", "volume")
    return Truth(
        {
            _seconds(row["open_time"]): (tuple(float(row[name]) for name in names), row["trades"])
            for row in answer.json()["candles"]
        }
    )


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


# -- waiting ---------------------------------------------------------------------------------------------------------


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 200
    except httpx.HTTPError:
        return False


async def _all_began(seen: Mapping[str, Sequence[Observation]]) -> bool:
    return all(
        {observation.symbol for observation in seen[peer.name]} >= {"BTC/USD"} for peer in PEERS if not peer.afterwards
    )


async def _until(condition: Callable, what: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not await condition():
        if time.monotonic() > deadline:
            message = f"expected {what} within {_READY_SECONDS} s"
            raise TimeoutError(message)
        await asyncio.sleep(0.2)


def is_installed() -> bool:
    """Whether the clients' environment exists (`make peers-venv`)."""
    return PYTHON.exists()
