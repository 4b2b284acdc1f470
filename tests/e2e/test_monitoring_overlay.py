"""Prometheus and Grafana beside the stack, as far as compose can tell without their images."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from servers import missing

ROOT = Path(__file__).resolve().parents[2]
ADDED = {"prometheus", "grafana"}


def compose_config(*files: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `docker compose config`, without anyone's .env."""
    if shutil.which("docker") is None:
        missing("Docker with Compose", "there is no docker command on the PATH")
    arguments = [argument for file in files for argument in ("-f", file)]
    return subprocess.run(
        ["docker", "compose", "--env-file", "/dev/null", *arguments, "config", "--format", "json"],
        cwd=ROOT,
        env={key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def configuration(*files: str) -> dict:
    """What compose makes of the files with a password for Grafana."""
    outcome = compose_config(*files, GRAFANA_PASSWORD="for-this-test")
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout)


@pytest.mark.parametrize("between", [(), ("deploy/demo.yml",)], ids=["live", "demo"])
def test_monitoring_is_added_to_the_stack_and_bounded(between):
    before = configuration("docker-compose.yml", *between)["services"]
    services = configuration("docker-compose.yml", *between, "deploy/monitoring.yml")["services"]
    assert services.keys() - before.keys() == ADDED
    assert {name: services[name] for name in before} == before
    for name in ADDED:
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["ulimits"]["nofile"]["soft"] == 16_384
        assert all(port["host_ip"] == "127.0.0.1" for port in service["ports"])
        assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()


@pytest.mark.parametrize("password", [{}, {"GRAFANA_PASSWORD": ""}], ids=["unset", "empty"])
def test_grafana_without_a_password_is_refused(password):
    outcome = compose_config("docker-compose.yml", "deploy/monitoring.yml", **password)
    assert outcome.returncode != 0
    assert "expected a password for Grafana in .env, got none; make env writes one" in outcome.stderr


def test_files_that_are_mounted_are_there():
    services = configuration("docker-compose.yml", "deploy/monitoring.yml")["services"]
    sources = [Path(v["source"]) for name in ADDED for v in services[name]["volumes"] if v["type"] == "bind"]
    assert sources
    assert [source for source in sources if not source.exists()] == []
