"""What can go wrong, one type for each kind a caller can act on."""


class SimulatorError(Exception):
    """Anything that keeps the simulator from running; the message is one clear line."""


class SourceError(SimulatorError):
    """A market source (archive or trades file) is missing or does not hold what it should."""


class FaultError(SimulatorError):
    """A fault was asked for that does not exist or cannot be started so."""
