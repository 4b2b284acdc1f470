"""Fixtures for the tests of all packages: real servers (`tests/servers.py`)."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

# Tests of every package use these helpers, and pytest's importlib mode adds no folder to the path.
sys.path.insert(0, str(Path(__file__).parent / "tests"))

from servers import certificates, influx_of, influx_place, mosquitto_of, mosquitto_url

__all__ = ["certificates", "influx_of", "influx_place", "mosquitto_of", "mosquitto_url"]


@pytest.fixture(autouse=True)
def _logs_go_where_they_went() -> Iterator[None]:
    """A program that a test starts in its process sets up the logs of all that follow."""
    yield
    structlog.reset_defaults()


# How long an example takes depends on the machine.
settings.register_profile("full", deadline=None)
settings.register_profile("fast", max_examples=10, deadline=None)
settings.load_profile("full")
