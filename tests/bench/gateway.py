"""kraken-gateway beside ccxt.pro: the same frames of one simulator, at the same time."""

import re
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.figure import Definition, Group, Outcome, UnavailableError, at_most, paired
from bench.processes import Child, broker, cpu_seconds, module
from servers import free_port

_SYMBOLS = 100
_RATE = 500
_WINDOWS = 9
_SECONDS = 4.0
_START_SECONDS = 60.0
_FRAMES = re.compile(r'^ingress_gateway_frames_total\{kind="candles"\} (\S+)$', re.MULTILINE)
_ROOT = Path(__file__).parents[2]
_PYTHON = _ROOT / ".venv-peers" / "bin" / "python"
_CLIENT = _ROOT / "tests" / "peers" / "clients" / "ccxt_updates.py"


def _measure() -> Mapping[str, Outcome]:
    if not _PYTHON.exists():
        raise UnavailableError("expected ccxt in .venv-peers: make peers-venv")
    ws, control, http = free_port(), free_port(), free_port()
    simulated = {"SIM_PORT": ws, "SIM_CONTROL_PORT": control, "SIM_SYMBOLS": _SYMBOLS, "SIM_RATE": _RATE}
    with broker() as mqtt, tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        simulator = Child(module("kraken_simulator"), folder, **{name: str(value) for name, value in simulated.items()})
        stack.enter_context(simulator)
        _await(lambda: bool(_get(f"http://127.0.0.1:{control}/health")))
        settings = {
            "MQTT_URL": mqtt.url,
            "KRAKEN_WS_URL": f"ws://127.0.0.1:{ws}/v2",
            "KRAKEN_REST_URL": f"http://127.0.0.1:{ws}",
            "SYMBOLS": "*",
            "INSTANCE_ID": "bench",
            "HTTP_PORT": str(http),
            "LOG_LEVEL": "warning",
        }
        gateway = stack.enter_context(Child(module("kraken_gateway"), folder, **settings))
        client = stack.enter_context(
            Child([str(_PYTHON), str(_CLIENT), settings["KRAKEN_WS_URL"], settings["KRAKEN_REST_URL"]], folder)
        )
        client.expect("ready")
        _await(lambda: _frames(http) > 0)
        costs = [_window(gateway, client, http) for _ in range(_WINDOWS)]
    ours, theirs = [cost for cost, _ in costs], [cost for _, cost in costs]
    note = f"{min(ours):.0f} us a frame beside {min(theirs):.0f} us"
    return {_NAME: paired(ours, theirs, note)}


def _window(gateway: Child, client: Child, http: int) -> tuple[float, float]:
    """Microseconds of CPU a frame of both over the same seconds."""
    before = _now(gateway, client, http)
    time.sleep(_SECONDS)
    after = _now(gateway, client, http)
    frames, updates, ours, theirs = (b - a for a, b in zip(before, after, strict=True))
    if min(frames, updates) < 0.9 * max(frames, updates, 1):
        raise AssertionError(f"expected about as many frames in both, got {frames:.0f} and {updates:.0f}")
    return ours / frames * 1e6, theirs / updates * 1e6


def _now(gateway: Child, client: Child, http: int) -> tuple[float, float, float, float]:
    client.write_line("updates")
    return _frames(http), client.number(), cpu_seconds(gateway.pid), cpu_seconds(client.pid)


def _frames(http: int) -> float:
    found = _FRAMES.search(_get(f"http://127.0.0.1:{http}/metrics"))
    return float(found[1]) if found else 0.0


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"expected the simulator and the gateway to start within {_START_SECONDS:.0f} s")
        time.sleep(0.1)


_NAME = "gateway, CPU a frame"

GROUPS = (
    Group(
        (
            Definition(
                _NAME,
                f"CPU of kraken-gateway a frame of `ohlc` ({_SYMBOLS} symbols, {_RATE} frames/s), published at QoS 1, "
                "divided by that of ccxt.pro's `watch_ohlcv` for the same frames at the same time, published nowhere.",
                at_most(1),
            ),
        ),
        _measure,
    ),
)
