"""Who does what: the instances of a service share the symbols out by rendezvous hashing, without a leader."""

from collections.abc import Collection
from hashlib import blake2b

from ingress_common.model import Presence, Status
from ingress_common.topics import Topics


def owner_of(key: str, members: Collection[str]) -> str:
    """The member that `key` belongs to: the same one in every process, whatever the order of `members`.

    A member that comes takes an even share of keys from the others; one that goes leaves its keys to them; no other key
    moves. ValueError without members.
    """
    if not members:
        raise ValueError(f"expected members to own {key!r}, got none")
    return max(members, key=lambda member: (_weight(member, key), member))


def _weight(member: str, key: str) -> bytes:
    return blake2b(f"{member}\0{key}".encode(), digest_size=8).digest()


class Members:
    """The online instances of one service, as their status messages tell, always with `me` among them."""

    def __init__(self, topics: Topics, service: str, me: str) -> None:
        self._service = service
        self._me = me
        self._others: frozenset[str] = frozenset()
        self.filter = topics.status(service, "+")
        """The filter to subscribe to."""

    @property
    def online(self) -> frozenset[str]:
        """The instances that are there, `me` included."""
        return self._others | {self._me}

    def update(self, status: Status) -> bool:
        """Take a status message; whether the membership has changed. Other services and our own change nothing."""
        if status.service != self._service or status.instance == self._me:
            return False
        before = self._others
        if status.state is Presence.ONLINE:
            self._others = before | {status.instance}
        else:
            self._others = before - {status.instance}
        return self._others != before

    def owns(self, symbol: str) -> bool:
        """Whether `symbol` is ours."""
        return owner_of(symbol, self.online) == self._me
