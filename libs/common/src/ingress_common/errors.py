"""Failures that end a service with one line instead of a traceback."""


class StartError(Exception):
    """A service cannot start or go on, for a reason that its user can mend. The text is one line that names it."""


class SettingsError(StartError):
    """A wrong or missing setting. The text is one line: variable, what it may hold, what it holds (secrets masked)."""


class NameTakenError(StartError):
    """Another process of the same service has our name (INSTANCE_ID), and is the one to keep it."""


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group that is none itself: what a single line can tell of tasks that failed together."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
