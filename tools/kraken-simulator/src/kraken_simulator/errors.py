"""Errors, one type for each kind that a caller can act on."""


class SimulatorError(Exception):
    """The simulator cannot run. The text is one line."""


class SourceError(SimulatorError):
    """A source file (archive or trades) does not exist or is malformed. The text names the file."""


class FaultError(SimulatorError):
    """A requested fault does not exist or cannot be started with these fields."""
