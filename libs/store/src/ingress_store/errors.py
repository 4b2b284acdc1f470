"""What can go wrong with a store, by what a caller can do about it."""


class StoreUrlError(ValueError):
    """The URL names no store that this version has; another setting is needed."""


class StoreOpenError(Exception):
    """The store cannot be used as it is: corrupt, not writable, of another layout. The message names it."""


class StoreUnavailableError(Exception):
    """The store does not answer now, or has no room; the same call may succeed later."""
