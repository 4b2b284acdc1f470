"""Which of two rows of one identity is kept, whatever order they arrive in."""

from ingress_common.model import Candle


def replaces(new: Candle, stored: Candle) -> bool:
    """Whether `new` takes the place of `stored`, a row of the same identity.

    A closed candle takes a forming one's place and never the other way round; otherwise the one with the later
    (at, revision) is kept, so a message that the broker delivers again, or late, changes nothing. Equal ones may
    replace each other: they are the same message.
    """
    if new.closed != stored.closed:
        return new.closed
    return (new.at, new.revision) >= (stored.at, stored.revision)
