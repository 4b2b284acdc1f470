"""Prometheus, alerts and dashboard: valid, tested, current, and about metrics that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from dashboard import dashboard_text
from metrics_page import metrics_page
from registries import SERVICES, metrics_of, registry_of
from servers import missing

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RULES = sorted((MONITORING / "rules").glob("*.yml"))
DASHBOARD = MONITORING / "grafana" / "dashboards" / "crypto-ingress.json"
PAGE = ROOT / "docs" / "metrics.md"
GENERATE = "python deploy/monitoring/generate"

_NAME = re.compile(r"\bingress[a-z0-9_:]*[a-z0-9]\b")


def promtool(*arguments: str | Path, given: bytes | None = None) -> str:
    """Run promtool; fails with what it said."""
    binary = shutil.which("promtool")
    if binary is None:
        missing("promtool", "it is part of Debian's package prometheus")
    outcome = subprocess.run([binary, *map(str, arguments)], input=given, capture_output=True, check=False)
    said = (outcome.stdout + outcome.stderr).decode()
    assert outcome.returncode == 0, said
    return said


def expressions() -> list[str]:
    """Every expression of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert found
    # What Grafana puts in.
    return [expression.replace("$__rate_interval", "1m") for expression in found]


def without_comments(path: Path) -> str:
    return "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))


def alerts() -> dict[str, str]:
    """The text of each alert, by name."""
    parts = re.split(r"^      - (?=alert: |record: )", "\n".join(map(without_comments, RULES)), flags=re.MULTILINE)
    return {part.split()[1]: part for part in parts if part.startswith("alert: ")}


def known_names() -> set[str]:
    """The names of all series of the services, and of what is recorded."""
    series = {name for service in SERVICES for metric in metrics_of(service) for name in metric.series}
    return series | set(re.findall(r"record: (\S+)", (MONITORING / "rules" / "recording.yml").read_text()))


def test_metrics_page_is_current():
    assert PAGE.read_text() == metrics_page(), f"run {GENERATE}"


def test_dashboard_is_current():
    assert DASHBOARD.read_text() == dashboard_text(), f"run {GENERATE}"


def test_every_metric_that_an_alert_or_recording_rule_names_exists():
    named = {name for path in RULES for name in _NAME.findall(without_comments(path))}
    assert named - known_names() == set()


def test_every_metric_that_the_dashboard_names_exists():
    named = {name for expression in expressions() for name in _NAME.findall(expression)}
    assert named - known_names() == set()


def test_every_alert_has_severity_description_and_runbook():
    for name, text in alerts().items():
        assert re.search(r"severity: (critical|warning|info)\b", text), name
        assert "summary: " in text, name
        assert "description: " in text, name
        assert f"runbook_url: docs/operations.md#{name.lower()}\n" in f"{text}\n", name


def test_every_alert_has_tests_for_firing_and_not_firing():
    tests = "\n".join(path.read_text() for path in (MONITORING / "rules" / "tests").glob("*.yml"))
    asked = re.findall(r'ALERTS\{alertname="(\w+)"[^}]*\}.*\n +(?:eval_time: .*\n +)?(exp_samples)?', tests)
    fires = {name for name, samples in asked if samples} | set(re.findall(r"- alertname: (\w+)", tests))
    quiet = set(re.findall(r"\{expr: 'ALERTS\{alertname=\"(\w+)\"[^}]*\}', eval_time: \w+\}", tests))
    assert fires == set(alerts())
    assert quiet == set(alerts())


def test_prometheus_configuration_and_rules_are_valid():
    assert "SUCCESS" in promtool("check", "config", MONITORING / "prometheus.yml")
    promtool("check", "rules", *RULES)


@pytest.mark.parametrize("path", sorted((MONITORING / "rules" / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path):
    assert "SUCCESS" in promtool("test", "rules", path)


def test_every_expression_of_the_dashboard_is_valid(tmp_path):
    rules = [{"record": f"dashboard:{n}", "expr": expression} for n, expression in enumerate(expressions())]
    # JSON is YAML.
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", tmp_path / "rules.yml")


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_keep_to_the_conventions_of_prometheus(service):
    promtool("check", "metrics", given=generate_latest(registry_of(service)))
    for metric in metrics_of(service):
        assert metric.name.startswith("ingress_")
        assert metric.text[0].isupper()
        assert not metric.text.endswith(".")


def test_nothing_but_admin_api_has_a_series_for_each_symbol():
    per_symbol = {metric.name for service in SERVICES for metric in metrics_of(service) if "symbol" in metric.labels}
    assert per_symbol == {"ingress_symbol_age_seconds"}
