"""The error that ends a command."""


class CommandError(Exception):
    """A command failed. The text names the reason."""
