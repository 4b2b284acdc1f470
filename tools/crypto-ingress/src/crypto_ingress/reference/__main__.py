"""`python -m crypto_ingress.reference docs` writes the generated pages into the folder `docs`."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crypto_ingress.reference.asyncapi import asyncapi
from crypto_ingress.reference.configuration import configuration_page
from crypto_ingress.reference.openapi import openapi
from crypto_ingress.reference.schemas import DRAFT, payload_schemas


def pages() -> dict[str, str]:
    """The text of every generated file, by its path within `docs`."""
    schemas = {
        f"schemas/{name}.json": _json({"$schema": DRAFT, **schema})
        for name, schema in payload_schemas("{name}.json").items()
    }
    return {
        "asyncapi.json": _json(asyncapi(version("crypto-ingress"))),
        "openapi.json": _json(openapi()),
        "configuration.md": configuration_page(),
        **schemas,
    }


def main(folder: Path) -> None:
    """Write all pages below `folder` and remove schemas of payloads that no longer exist."""
    wanted = pages()
    for path in folder.glob("schemas/*.json"):
        if str(path.relative_to(folder)) not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m crypto_ingress.reference FOLDER")
    main(Path(sys.argv[1]))
