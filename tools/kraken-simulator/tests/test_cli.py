import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from kraken_simulator import Simulator, SimulatorConfig, SimulatorError
from kraken_simulator.cli import main
from kraken_simulator.config import EnvironmentConfig


def run(*arguments: str) -> int:
    return main(["--port", "0", "--control-port", "0", *arguments])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--port", "http"], ["SIM_PORT", "'http'"]),
        (["--activity", "-1"], ["SIM_ACTIVITY", "'-1'"]),
        (["--activity", "inf"], ["SIM_ACTIVITY", "'inf'"]),
        (["--archive", "nofile"], ["SIM_ARCHIVES", "BTC/USDC=", "'nofile'"]),
        (["--symbols", "btcusd"], ["symbols", "'btcusd'"]),
        (["--symbols", "0"], ["at least one pair"]),
        (["--archive", "BTC/USD=/no/such/file.csv"], ["/no/such/file.csv", "No such file"]),
    ],
)
def test_wrong_setting_ends_with_one_clear_line(
    capfd: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]
) -> None:
    assert run(*arguments) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("kraken_simulator:")]
    assert len(lines) == 1
    assert all(part in lines[0] for part in parts)


def test_port_in_use_ends_with_one_clear_line(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--control-port", "0"]) == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capfd.readouterr().err


def test_settings_come_from_the_environment_and_options_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIM_SYMBOLS", "BTC/USD, ETH/USD")
    monkeypatch.setenv("SIM_ARCHIVES", "BTC/USDC=a.csv,SOL/USD=b.csv")
    monkeypatch.setenv("SIM_PORT", "1234")
    monkeypatch.setenv("SIM_RATE", "")
    config = EnvironmentConfig(port=99)
    assert config.symbols == ("BTC/USD", "ETH/USD")
    assert config.archives == {"BTC/USDC": Path("a.csv"), "SOL/USD": Path("b.csv")}
    assert config.port == 99
    assert config.rate is None
    monkeypatch.setenv("SIM_SYMBOLS", "40")
    assert len(Simulator(EnvironmentConfig()).symbols) == 40


async def test_signal_stops_the_process_cleanly() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "kraken_simulator", "--port", "0", "--control-port", "0", "--symbols", "2"),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "SIM_HISTORY_WEEKS": "12"},
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while b"simulator.started" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert b"Traceback" not in await process.stderr.read()


async def test_stopped_simulator_can_be_restarted() -> None:
    simulator = Simulator(SimulatorConfig(port=0, control_port=0, symbols=2, history_weeks=12))
    for _ in range(2):
        await simulator.start()
        with pytest.raises(SimulatorError, match="started already"):
            await simulator.start()
        await simulator.stop()
    await simulator.stop()
