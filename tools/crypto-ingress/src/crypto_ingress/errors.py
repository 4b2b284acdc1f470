"""The errors that end a command."""


class CommandError(Exception):
    """A command failed. The text names the reason."""


class ReplayError(Exception):
    """The replay makes no progress. The text names what it waits for."""
