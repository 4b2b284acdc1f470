"""Fixtures for the tests of all packages: real servers (`tests/servers.py`)."""

import sys
from pathlib import Path

# Tests of every package use these helpers, and pytest's importlib mode puts no folder on the path.
sys.path.insert(0, str(Path(__file__).parent / "tests"))

from servers import influx_of, influx_place, mosquitto_of, mosquitto_url

__all__ = ["influx_of", "influx_place", "mosquitto_of", "mosquitto_url"]
