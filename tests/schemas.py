"""The committed JSON schemas of the bus's payloads."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs

_BASE = "https://schemas.invalid/"
_FOLDER = Path(__file__).parents[1] / "docs/schemas"


@functools.cache
def load_schemas() -> Mapping[str, Any]:
    """Every schema by the name of its payload."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(_FOLDER.glob("*.json"))}


@functools.cache
def validator(name: str) -> Any:
    """Checks values against the schema called `name`."""
    registry = jsonschema_rs.Registry([(f"{_BASE}{other}.json", schema) for other, schema in load_schemas().items()])
    return jsonschema_rs.validator_for({"$ref": f"{_BASE}{name}.json"}, registry=registry, validate_formats=True)
