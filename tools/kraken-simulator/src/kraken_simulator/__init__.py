"""A Kraken for tests, demos and load: WebSocket v2 and REST over synthetic or recorded markets, and faults."""

from kraken_simulator.config import SimulatorConfig, read_config
from kraken_simulator.errors import FaultError, SimulatorError, SourceError
from kraken_simulator.simulator import Simulator

__all__ = ["FaultError", "Simulator", "SimulatorConfig", "SimulatorError", "SourceError", "read_config"]
