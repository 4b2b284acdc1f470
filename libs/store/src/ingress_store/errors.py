"""The errors of a store, by what a caller can do about them."""


class StoreUrlError(ValueError):
    """This version has no store for the URL; another setting is needed."""


class StoreOpenError(Exception):
    """The store cannot be used as it is: corrupt, not writable, of another layout. The message names it."""


class StoreUnavailableError(Exception):
    """The store does not answer, or is full; the same call may succeed later."""
