"""Membership: the instances of a service divide the symbols by rendezvous hashing, without a leader."""

import time
from collections.abc import Callable, Collection
from hashlib import blake2b

from ingress_common.model import InstanceState, Status
from ingress_common.topics import Topics

TAKEOVER_SECONDS = 30.0
"""A member is offline after this long without a status message. Each member publishes one every 5 s (`heartbeat`), and
normally a last will arrives first. The limit applies to members that died together with the broker.
"""

SUSPENDED_SECONDS = 10.0
"""An interval between two calls of `expire` above which this process, and not the members, was suspended."""

MAXIMUM_MEMBERS = 1_000
"""Maximum number of members, so that forged status messages cannot fill the memory."""


def owner_of(key: str, members: Collection[str]) -> str:
    """The member that owns `key`: the same in every process, whatever the order of `members`.

    A new member takes an even share of keys from the others; the keys of a leaving member are spread over the rest. No
    other key moves. ValueError if there are no members.
    """
    if not members:
        raise ValueError(f"expected members to own {key!r}, got none")
    return max(members, key=lambda member: (_weight(member, key), member))


def _weight(member: str, key: str) -> bytes:
    return blake2b(f"{member}\0{key}".encode(), digest_size=8).digest()


class Members:
    """The online instances of one service, from their status messages; `me` is always among them.

    `steady` is a monotonic clock in seconds.
    """

    def __init__(self, topics: Topics, service: str, me: str, steady: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._me = me
        self._steady = steady
        self._seen_at: dict[str, float] = {}
        self._checked_at: float | None = None
        self.filter = topics.status(service, "+")
        """The topic filter of the members' statuses, to subscribe to."""

    @property
    def online(self) -> frozenset[str]:
        """The instances that are online, `me` included."""
        return frozenset(self._seen_at) | {self._me}

    def update(self, status: Status) -> bool:
        """Process a status message of any service. Returns whether the membership has changed."""
        if status.service != self._service or status.instance == self._me:
            return False
        if status.state is not InstanceState.ONLINE:
            return self._seen_at.pop(status.instance, None) is not None
        new = status.instance not in self._seen_at
        if new and len(self._seen_at) >= MAXIMUM_MEMBERS:
            return False
        self._seen_at[status.instance] = self._steady()
        return new

    def expire(self) -> bool:
        """Remove members without a message for TAKEOVER_SECONDS. Returns whether the membership has changed.

        Call it every few seconds while the broker is connected. After this process was suspended, the call removes
        nobody, because the messages of that time are still unread.
        """
        checked_at, self._checked_at = self._checked_at, self._steady()
        if checked_at is not None and self._checked_at - checked_at > SUSPENDED_SECONDS:
            self.reconnected()
        silent = [name for name, seen_at in self._seen_at.items() if self._steady() - seen_at > TAKEOVER_SECONDS]
        for name in silent:
            del self._seen_at[name]
        return bool(silent)

    def reconnected(self) -> None:
        """Restart every member's TAKEOVER_SECONDS, because the broker delivered nothing while it was disconnected."""
        self._seen_at = dict.fromkeys(self._seen_at, self._steady())

    def owns(self, symbol: str) -> bool:
        """Whether this instance owns `symbol`."""
        return owner_of(symbol, self.online) == self._me
