"""Brokers that people already have, against the table of what does not hold on them: `make brokers`."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from broker_process import HERE, running
from ingress_common.bus.check import check_broker
from ingress_common.bus.url import MqttUrl

ROOT = HERE.parents[1]
SUITE = ROOT / "libs/common/tests/test_bus.py"
SELECTED = "mosquitto-mqtt5 and not brief_connections and not disconnects_lose_no_published"
"""Tests of the suite that run on any broker, but for slow ones, which try our client more than the broker."""
TESTS = 28

BROKERS: Mapping[str, Mapping[str, Any]] = tomllib.loads((HERE / "expected.toml").read_text())
FETCHED = os.environ.get("BROKERS", "")
ALLOWED = int(os.environ.get("BROKERS_DEVIATIONS", "0"))
"""How many results of a broker may differ from the table, because messages meet in other ways on another machine."""
_TEST_SECONDS = 15
_EACH = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in BROKERS]
"""So that each broker has a process of its own: they wait more than they compute."""


def row(broker: Mapping[str, Any]) -> str:
    """The broker's row of the table in docs/brokers.md."""
    fails = sum(name.startswith("test_") for name in broker["fails"])
    varies = sum(name.startswith("test_") for name in broker["varies"])
    passed = f"{TESTS - fails - varies} to {TESTS - fails} of {TESTS}"
    reasons = dict.fromkeys((*broker["fails"].values(), *broker["varies"].values()))
    return f"| {broker['title']} | {passed} | {'; '.join(reasons)} | {broker['settings']} |"


def suite_failures(port: int, report: Path) -> set[str]:
    """The names of the tests of the bus's suite that fail on the broker at `port`."""
    command = [sys.executable, "-m", "pytest", str(SUITE), "-k", SELECTED, "-p", "no:cacheprovider"]
    outcome = subprocess.run(
        [*command, "-p", "no:xdist", f"--timeout={_TEST_SECONDS}", f"--junitxml={report}", "--tb=line", "-q"],
        cwd=ROOT,
        env={**os.environ, "TEST_MQTT_URL": f"mqtt://127.0.0.1:{port}", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode in (0, 1), outcome.stdout + outcome.stderr
    cases = list(ET.parse(report).iter("testcase"))
    assert len(cases) == TESTS
    return {
        case.attrib["name"].partition("[")[0]
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }


@pytest.mark.parametrize("name", _EACH)
def test_the_page_has_the_row_of_the_broker(name):
    assert row(BROKERS[name]) in (ROOT / "docs/brokers.md").read_text()


@pytest.mark.skipif(not FETCHED, reason="brokers of public registries: make brokers")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", _EACH)
async def test_the_broker_does_what_is_expected(name, tmp_path):
    folder = tmp_path / "broker"
    folder.mkdir()
    with running(name, Path(FETCHED), folder) as port:
        findings = await check_broker(MqttUrl("127.0.0.1", port), "ingress")
        failed = suite_failures(port, tmp_path / "report.xml")
    broker = BROKERS[name]
    lacking = {finding.what: finding.lacking for finding in findings if finding.lacking}
    for what, reason in lacking.items():
        named = [words for words in (*broker["fails"], *broker["varies"]) if words in what]
        failed |= set(named) or {f"check-broker: {what}: {reason}"}
    deviations = (failed - broker["varies"].keys()) ^ broker["fails"].keys()
    if 0 < len(deviations) <= ALLOWED:
        pytest.xfail(f"differs from the table, as its timing may: {', '.join(sorted(deviations))}")
    assert not deviations
