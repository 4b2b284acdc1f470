"""Errors that end a service with one line instead of a traceback."""


class StartError(Exception):
    """A service cannot start or continue, for a reason that its operator can fix. The text is one line."""


class SettingsError(StartError):
    """A setting is wrong or not set. The text is one line: variable, valid values, value (secrets masked)."""


class NameTakenError(StartError):
    """Another process of the same service owns our name (INSTANCE_ID)."""


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in `group` that is not a group itself: the cause to print when several tasks failed together."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
