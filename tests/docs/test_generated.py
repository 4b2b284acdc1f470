"""What is generated from the code is current, and what the pages refer to is there."""

import re
from pathlib import Path

import jsonschema_rs
import pytest

from crypto_ingress.reference.__main__ import pages
from crypto_ingress.reference.configuration import SERVICES
from schemas import load_schemas, validator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MARKDOWN = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", ".venv-bench", ".venv-peers", ".venv-readers", "node_modules", ".git", ".pytest_cache"}
    & set(path.relative_to(ROOT).parts)
)
_SET_BY_THE_IMAGE = {"instance_id", "health_port", "http_host", "http_port"}
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", sorted(pages()))
def test_generated_page_is_current(name):
    path = DOCS / name
    assert path.exists(), f"{name} is missing; run make docs"
    assert path.read_text() == pages()[name], f"{name} is not current; run make docs"


def test_every_schema_belongs_to_a_current_payload():
    assert {f"schemas/{path.name}" for path in DOCS.glob("schemas/*.json")} == {
        name for name in pages() if name.startswith("schemas/")
    }


def test_examples_of_the_schemas_are_valid_and_nothing_else_is():
    for name, schema in load_schemas().items():
        jsonschema_rs.meta.validate(schema)
        assert not validator(name).is_valid({})
        for example in schema.get("examples", ()):
            validator(name).validate(example)


def test_every_message_of_the_description_has_a_channel_that_carries_it():
    text = (DOCS / "asyncapi.json").read_text()
    for name in load_schemas():
        if name != "status":
            assert f'"#/components/messages/{name}"' in text, name


def headings(page: Path) -> set[str]:
    """The anchors of the page's headings."""
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} is not there"
        if anchor and found.suffix == ".md":
            assert anchor in headings(found), f"{target}: there is no such heading"


def test_decisions_are_numbered_once():
    pages = list((DOCS / "decisions").glob("*.md"))
    numbers = [path.name[:4] for path in pages]
    assert len(numbers) == len(set(numbers)), sorted(numbers)
    for path in pages:
        assert path.read_text().startswith(f"# {int(path.name[:4])}. "), path.name


def test_pages_that_code_refers_to_are_there():
    for path in (*ROOT.glob("*/*/src/**/*.py"), *ROOT.glob("deploy/**/*.yml"), *ROOT.glob("tests/**/*.py")):
        for page in re.findall(r"docs/[\w/.-]+\.md", path.read_text()):
            assert (ROOT / page).exists(), f"{path.relative_to(ROOT)} refers to {page}"


def test_every_setting_of_a_service_can_be_set_in_the_containers():
    compose = "".join((ROOT / name).read_text() for name in ("docker-compose.yml", "deploy/tls.yml"))
    for service, settings in SERVICES.items():
        for name in settings.model_fields.keys() - _SET_BY_THE_IMAGE:
            assert re.search(rf"^ +{name.upper()}: ", compose, re.MULTILINE), f"{service}: {name.upper()}"


def test_every_alert_has_its_section_in_operations():
    rules = "".join(path.read_text() for path in (ROOT / "deploy/monitoring/rules").glob("*.yml"))
    alerts = set(re.findall(r"- alert: (\w+)", rules))
    sections = set(re.findall(r"^### ([A-Z]\w+)$", (DOCS / "operations.md").read_text(), re.MULTILINE))
    assert sections == alerts
    assert set(re.findall(r"runbook_url: docs/operations\.md#(\w+)", rules)) == {alert.lower() for alert in alerts}
