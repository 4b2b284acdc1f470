"""The commands of `docs/operations.md` for the containers, run as they stand there."""

import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from demo_stack import Stack, until

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^<!-- runs in containers -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEALTHY_SECONDS = 120.0
_REPAIRED_SECONDS = 180.0
TOKEN = "change-me-admin-token"

pytestmark = pytest.mark.timeout(900)


def commands() -> list[str]:
    return _BLOCK.findall((ROOT / "docs/operations.md").read_text())


def healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/health", timeout=10):
            return True
    except (urllib.error.URLError, OSError):
        return False


def until_healthy(address: str) -> None:
    deadline = time.monotonic() + _HEALTHY_SECONDS
    while not healthy(address):
        assert time.monotonic() < deadline, f"expected {address}/health to become green"
        time.sleep(0.5)


def run_as_documented(stack: Stack, folder: Path, code: str) -> None:
    """Run `code` in `folder`, with the stack's project, files and ports in place of the usual ones."""
    for usual, own in (
        ("crypto-ingress_", f"{stack.name}_"),
        ("localhost:8000", stack.address("admin-api", 8000)),
    ):
        code = code.replace(usual, own)
    environment = stack.environment | {
        "COMPOSE_PROJECT_NAME": stack.name,
        "COMPOSE_FILE": f"{ROOT}/docker-compose.yml:{ROOT}/deploy/demo.yml",
        "COMPOSE_DISABLE_ENV_FILE": "1",
        "ADMIN_TOKEN": TOKEN,
    }
    outcome = subprocess.run(
        ["bash", "-euc", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_scaling_backup_and_restore_work_as_documented(stack, tmp_path):
    # Another test may have stopped everything.
    stack.compose("up", "--detach", "--wait")
    address = stack.address("admin-api", 8000)
    until_healthy(address)
    scale, backup, restore = commands()
    run_as_documented(stack, tmp_path, scale)
    until_healthy(address)
    in_backup = stack.stored("1h")
    assert in_backup
    run_as_documented(stack, tmp_path, backup)
    until_healthy(address)
    before = stack.stored("1h")
    run_as_documented(stack, tmp_path, restore)
    until_healthy(address)
    after = stack.stored("1h")
    for symbol, rows in in_backup.items():
        assert rows.keys() <= after[symbol].keys(), symbol

    def all_are_back() -> bool:
        after = stack.stored("1h")
        return all(rows.keys() <= after.get(symbol, {}).keys() for symbol, rows in before.items())

    # What came after the backup is requested from Kraken.
    until(all_are_back, _REPAIRED_SECONDS, "every stored 1h candle is there again")
