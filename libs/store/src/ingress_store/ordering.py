"""Which of two rows of one identity is kept, in whatever order they arrive."""

from ingress_common.model import Candle


def replaces(new: Candle, stored: Candle) -> bool:
    """Whether `new` replaces `stored`, a row of the same identity.

    A closed candle replaces a forming one, never the reverse; otherwise the later (at, revision) is kept, so a message
    that is delivered twice or late changes nothing. Equal ones may replace each other: they are the same message.
    """
    if new.closed != stored.closed:
        return new.closed
    return (new.at, new.revision) >= (stored.at, stored.revision)
