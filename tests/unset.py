"""An environment without the settings of this machine."""

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings


def unset(monkeypatch: pytest.MonkeyPatch, settings_type: type[BaseSettings], folder: Path) -> None:
    """Remove every variable of `settings_type`, and work in `folder`, which has no `.env`."""
    monkeypatch.chdir(folder)
    for name in settings_type.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
