"""The demo stack as its users start it: the compose files, under a project name and ports of its own."""

import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# pytest's importlib mode puts no folder on the path.
sys.path.insert(0, str(Path(__file__).parent))

from demo_stack import SERVICES, Stack

from servers import docker_has, missing

_ROOT = Path(__file__).resolve().parents[2]
_BASE_IMAGES = ("python:3.11-slim-bookworm", "eclipse-mosquitto:2", "influxdb:2.7")
_HEALTHY_SECONDS = 90


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The demo stack, built and healthy; everything that belongs to it is removed at the end."""
    if reason := _why_not():
        missing("Docker with Compose and the base images", reason)
    name = f"ingress-e2e-{secrets.token_hex(4)}"
    stack = Stack(_ROOT, name)
    try:
        stack.compose("build", "--quiet", seconds=600)
        stack.compose("up", "--detach", "--wait", "--wait-timeout", str(_HEALTHY_SECONDS))
        yield stack
    finally:
        log = tmp_path_factory.getbasetemp() / f"{name}.log"
        log.write_text(stack.compose("logs", "--no-color", check=False))
        stack.compose("down", "--volumes", "--remove-orphans", "--timeout", "15", check=False)
        images = [f"crypto-ingress/{service}:{name}" for service in SERVICES]
        subprocess.run(["docker", "rmi", "--force", *images], check=False, capture_output=True)


def _why_not() -> str:
    if shutil.which("docker") is None:
        return "there is no docker command on the PATH"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if outcome.returncode:
            return f"{' '.join(command)}: {outcome.stderr.strip() or outcome.stdout.strip()}"
    lacking = [image for image in _BASE_IMAGES if not docker_has(image)]
    return f"cannot get {', '.join(lacking)}" if lacking else ""
