"""`run_service` as a process: signals, exit codes and standard error."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from servers import free_port

HEALTH_CHECK = Path(__file__).resolve().parents[3] / "deploy/container/healthcheck.py"

PROGRAM = """
import asyncio, sys
from ingress_common.bus import BusError
from ingress_common.health import Health
from ingress_common.service import StartError, run_service
from ingress_common.settings import ServiceSettings

class Program:
    name = "program"
    async def run(self):
        kind = sys.argv[1]
        if kind == "start-error":
            raise StartError("the thing\\nis missing")
        if kind == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(self.fail())
        if kind == "crash":
            raise KeyError("defect")
        print("running", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print("cleaned up", flush=True)
    async def fail(self):
        raise BusError("no broker at mqtt://nowhere")
    def health(self):
        return Health(live=True, ready=True)

sys.exit(run_service("program", ServiceSettings, lambda settings, registry, _connector: Program()))
"""


def start(tmp_path: Path, kind: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind],
        cwd=tmp_path,
        env={**os.environ, "HTTP_PORT": "0", "LOG_FORMAT": "json", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_a_clean_stop(tmp_path, number):
    process = start(tmp_path, "run")
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "cleaned up\n")
    assert "Traceback" not in err


def test_probes_are_served_while_it_runs(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start(tmp_path, "run", HTTP_PORT=str(port))
    assert process.stdout.readline() == "running\n"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=10) as response:
        assert response.status == 200
    process.terminate()
    process.communicate(timeout=30)


def test_container_is_healthy_whatever_certificates_the_service_requires(tmp_path, certificates):
    port = str(free_port())
    tls = {
        "HTTP_CERT_FILE": str(certificates.cert("admin-api")),
        "HTTP_KEY_FILE": str(certificates.key("admin-api")),
        "HTTP_CLIENT_CA_FILE": str(certificates.stranger),
    }
    process = start(tmp_path, "run", HEALTH_PORT=port, **tls)
    assert process.stdout.readline() == "running\n"
    environment = {**os.environ, **tls, "SERVICE": "admin-api", "HEALTH_PORT": port}
    command = [sys.executable, str(HEALTH_CHECK)]
    check = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (check.returncode, check.stdout[:4]) == (0, "200 ")
    process.terminate()
    process.communicate(timeout=30)
    check = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (check.returncode, check.stdout) == (
        1,
        f"no health from port {port}: [Errno 111] Connection refused\n",
    )


@pytest.mark.parametrize(
    ("kind", "line"),
    [("start-error", "program: the thing is missing"), ("group", "program: no broker at mqtt://nowhere")],
)
def test_failure_that_an_operator_can_fix_is_one_line(tmp_path, kind, line):
    process = start(tmp_path, kind, LOG_LEVEL="critical")
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, line + "\n")


def test_wrong_setting_is_one_line_and_exit_code_2(tmp_path):
    process = start(tmp_path, "run", HTTP_PORT="x")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err.startswith("program: HTTP_PORT: expected ")
    assert err.count("\n") == 1


def test_port_in_use_is_one_line_and_exit_code_1(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(tmp_path, "run", HTTP_PORT=str(port))
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"127.0.0.1:{port}" in err
    assert err.count("\n") == 1


def test_defect_is_logged_with_its_traceback(tmp_path):
    process = start(tmp_path, "crash")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "service.crashed" in err
    assert "KeyError" in err
