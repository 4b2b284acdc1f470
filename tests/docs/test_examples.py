"""The examples of the documentation, run against a demo.

A fenced block runs where `<!-- runs -->` stands above it; `<!-- runs, shows: TEXT -->` also says what it must print. In
the pages stand the usual ports and paths; here they are replaced by those of the demo.
"""

import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from command import environment
from documented_demo import TOKEN, DocumentedDemo
from servers import InfluxPlace, docker_has, missing

ROOT = Path(__file__).parents[2]
PAGES = ("operations.md", "reading.md", "security.md", "quick-start.md")
_BLOCK = re.compile(
    r"(?:^<!-- (?:runs(?:, shows: (?P<shows>.*?))?|(?P<recipe>recipe: .*?)) -->\n)?"
    r"^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_IMAGE = "eclipse-mosquitto:2"

pytestmark = pytest.mark.timeout(420)


@dataclass(frozen=True)
class Example:
    """A fenced block of a page; a `recipe` is run by `tests/readers`."""

    page: str
    line: int
    language: str
    code: str
    runs: bool
    recipe: bool
    shows: str


def examples() -> Iterator[Example]:
    for page in PAGES:
        text = (ROOT / "docs" / page).read_text()
        for block in _BLOCK.finditer(text):
            line = text.count("\n", 0, block.start("code"))
            runs = block[0].startswith("<!-- runs")
            recipe = block["recipe"] is not None
            yield Example(page, line, block["language"], block["code"], runs, recipe, block["shows"] or "")


# What makes Kraken fail comes last, so that it disturbs no other example.
RUNNING = sorted((example for example in examples() if example.runs), key=lambda example: "/faults" in example.code)


@pytest.fixture(scope="module")
def demo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mosquitto_url: str
) -> Iterator[DocumentedDemo]:
    influx: InfluxPlace | None
    try:
        influx = request.getfixturevalue("influx_place")
    except pytest.skip.Exception:
        influx = None
    demo = DocumentedDemo(tmp_path_factory.mktemp("documented"), mosquitto_url, influx)
    demo.start()
    try:
        demo.until_it_serves_candles()
        yield demo
    finally:
        demo.stop()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the PATH with mosquitto_sub, where only Docker has it."""
    folder = tmp_path_factory.mktemp("programs")
    if shutil.which("mosquitto_sub") is None and docker_has(_IMAGE):
        program = folder / "mosquitto_sub"
        program.write_text(f'#!/bin/sh\nexec docker run --rm --network host {_IMAGE} mosquitto_sub "$@"\n')
        program.chmod(0o755)
    return folder


def here(code: str, demo: DocumentedDemo) -> str:
    """`code` with this demo's ports and paths."""
    for usual, own in (
        ("localhost:8000", f"127.0.0.1:{demo.http_port}"),
        ("localhost:8701", f"127.0.0.1:{demo.control_port}"),
        ("localhost:1883", f"127.0.0.1:{demo.mqtt_port}"),
        ("-h localhost -p 1883", f"-h 127.0.0.1 -p {demo.mqtt_port}"),
        ('"localhost", 1883', f'"127.0.0.1", {demo.mqtt_port}'),
        (".venv/bin/", f"{Path(sys.executable).parent}/"),
    ):
        code = code.replace(usual, own)
    return code


def printed(command: list[str], demo: DocumentedDemo, programs: Path) -> str:
    settings = environment(**demo.settings)
    settings |= {"PATH": f"{programs}:{settings['PATH']}", "ADMIN_TOKEN": TOKEN}
    outcome = subprocess.run(
        command, cwd=demo.folder, env=settings, capture_output=True, text=True, timeout=90, check=False
    )
    assert outcome.returncode == 0, f"{outcome.stdout}\n{outcome.stderr}\nthe demo printed: {demo.output()}"
    return outcome.stdout


def answer_of_influx(query: str, influx: InfluxPlace | None) -> str:
    if influx is None:
        missing("InfluxDB", "set TEST_INFLUX_URL and TEST_INFLUX_TOKEN, start Docker, or put influxd 2.7 on the PATH")
    request = urllib.request.Request(
        f"{influx.url.replace('influxdb', 'http', 1)}/api/v2/query?org=documented",
        query.encode(),
        {"Authorization": f"Token {influx.token}", "Content-Type": "application/vnd.flux"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("example", RUNNING, ids=lambda example: f"{example.page}:{example.line}")
def test_example_runs_and_shows_what_it_should(example, demo, programs):
    code = here(example.code, demo)
    if example.language == "flux":
        said = answer_of_influx(code, demo.influx)
    elif example.language == "python":
        said = printed([sys.executable, "-c", code], demo, programs)
    else:
        if "mosquitto_sub" in code and not shutil.which("mosquitto_sub") and not (programs / "mosquitto_sub").exists():
            missing("mosquitto_sub", "install the package mosquitto-clients, or start Docker")
        said = printed(["bash", "-euc", code], demo, programs)
    assert example.shows in said, said


def test_every_check_of_health_is_looked_up_in_operations(demo):
    answer = httpx.get(f"http://127.0.0.1:{demo.http_port}/health", timeout=10)
    checks = {check["name"] for check in answer.json()["checks"]}
    table = (ROOT / "docs/operations.md").read_text().partition("### HealthCheckFailing")[2].partition("###")[0]
    named = set(re.findall(r"`([\w-]+)`", table))
    assert checks <= named, checks - named


def test_every_example_of_reading_the_data_runs():
    for example in examples():
        if example.page == "reading.md" and example.language in ("sh", "python", "flux"):
            assert example.runs or example.recipe, f"{example.page}, line {example.line}"
