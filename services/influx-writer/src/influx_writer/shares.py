"""The known symbols and their owners: rendezvous hashing among the writers that are online."""

from collections.abc import Iterable

from ingress_common.membership import Members, owner_of
from ingress_common.model import FeedState, Status
from ingress_common.topics import TopicError, Topics, topic_symbol

LEAVING = "leaving"
"""Status field: this writer takes no more symbols and hands over the listed ones."""

SYMBOLS = "symbols"
"""Status field: the symbols to which this writer is subscribed, or of which it still holds candles."""

_MOST_SYMBOLS = 5_000


class Shares:
    """The feeds and writers, as the writer `me` sees them.

    A symbol is known once a feed or a writer has listed it, and stays known: its candles may arrive for hours after
    its feed has gone.
    """

    def __init__(self, topics: Topics, service: str, me: str) -> None:
        self._me = me
        self._members = Members(topics, service, me)
        self._known: set[str] = set()
        self._lists: dict[str, frozenset[str]] = {}
        self._leaving: set[str] = set()
        self.filters = (self._members.filter, topics.feed("+"))

    def status(self, status: Status) -> bool:
        """Process a writer's status. Returns whether owners may have changed."""
        changed = self._members.update(status)
        if status.instance == self._me:
            return False
        if status.instance not in self._members.online:
            # Offline, or beyond the maximum number of members.
            self._forget(status.instance)
            return changed
        listed = frozenset(_symbols(status.details.get(SYMBOLS)))
        leaving = bool(status.details.get(LEAVING))
        changed |= leaving != (status.instance in self._leaving)
        (self._leaving.add if leaving else self._leaving.discard)(status.instance)
        self._lists[status.instance] = listed
        return self.know(listed) or changed

    def feed(self, state: FeedState) -> bool:
        """Process a feed's state. Returns whether it lists new symbols."""
        return self.know(state.symbols)

    def know(self, symbols: Iterable[str]) -> bool:
        """Add `symbols` to the known ones. Returns whether any is new."""
        before = len(self._known)
        for symbol in symbols:
            if len(self._known) < _MOST_SYMBOLS:
                self._known.add(symbol)
        return len(self._known) > before

    def expire(self) -> bool:
        """Drop members that have been silent for too long; returns whether any was. Call this every few seconds."""
        gone = self._members.expire()
        for instance in self._lists.keys() - self._members.online:
            self._forget(instance)
        return gone

    def reconnected(self) -> None:
        """Ignore the silence of other members so far, because the broker was unreachable."""
        self._members.reconnected()

    def leave(self) -> bool:
        """Stop taking symbols. Returns whether another writer takes them."""
        self._leaving.add(self._me)
        return bool(self._takers)

    @property
    def mine(self) -> set[str]:
        """The known symbols that `me` owns."""
        takers = self._takers or {self._me}
        return {symbol for symbol in self._known if owner_of(symbol, takers) == self._me}

    @property
    def members(self) -> int:
        """How many writers are online, `me` included."""
        return len(self._members.online)

    def has_taken(self, symbol: str) -> bool:
        """Whether the owner of `symbol` is another writer and lists it as subscribed."""
        takers = self._takers
        owner = owner_of(symbol, takers) if takers else self._me
        return owner != self._me and symbol in self._lists.get(owner, ())

    def is_elsewhere(self, symbol: str) -> bool:
        """Whether another writer that is online still lists `symbol`."""
        return any(symbol in listed for instance, listed in self._lists.items() if instance in self._members.online)

    def _forget(self, instance: str) -> None:
        self._lists.pop(instance, None)
        self._leaving.discard(instance)

    @property
    def _takers(self) -> frozenset[str]:
        return self._members.online - self._leaving


def _symbols(value: object) -> list[str]:
    """The valid symbols of a list in a status."""
    found = []
    for text in value if isinstance(value, list) else ():
        try:
            topic_symbol(text)
        except (TopicError, AttributeError, TypeError):
            continue
        found.append(text)
    return found
