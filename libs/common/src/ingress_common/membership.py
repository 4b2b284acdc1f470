"""Who does what: the instances of a service share the symbols out by rendezvous hashing, without a leader."""

import time
from collections.abc import Callable, Collection
from hashlib import blake2b

from ingress_common.model import Presence, Status
from ingress_common.topics import Topics

SILENT_SECONDS = 30.0
"""A member that has said nothing for this long is not there: each says so every 5 s (`presence`), and a last will
comes sooner. It is for what a broker that was killed still calls online.
"""

MOST_MEMBERS = 1_000
"""Members that are counted at most; somebody who makes up names must not fill the memory."""


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
    """The instances of one service that are there, as their status messages tell, always with `me` among them.

    `steady` is a clock that never steps (seconds).
    """

    def __init__(self, topics: Topics, service: str, me: str, steady: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._me = me
        self._steady = steady
        self._heard: dict[str, float] = {}
        self.filter = topics.status(service, "+")
        """The filter to subscribe to."""

    @property
    def online(self) -> frozenset[str]:
        """The instances that are there, `me` included."""
        return frozenset(self._heard) | {self._me}

    def update(self, status: Status) -> bool:
        """Take a status message; whether the membership has changed. Other services and our own change nothing."""
        if status.service != self._service or status.instance == self._me:
            return False
        if status.state is not Presence.ONLINE:
            return self._heard.pop(status.instance, None) is not None
        new = status.instance not in self._heard
        if new and len(self._heard) >= MOST_MEMBERS:
            return False
        self._heard[status.instance] = self._steady()
        return new

    def expire(self) -> bool:
        """Count out who has said nothing for SILENT_SECONDS; whether the membership has changed. Call it every few
        seconds while the broker is there.
        """
        silent = [name for name, heard in self._heard.items() if self._steady() - heard > SILENT_SECONDS]
        for name in silent:
            del self._heard[name]
        return bool(silent)

    def reconnected(self) -> None:
        """The broker was away, and nobody could be heard: everyone has SILENT_SECONDS from now on."""
        now = self._steady()
        self._heard = dict.fromkeys(self._heard, now)

    def owns(self, symbol: str) -> bool:
        """Whether `symbol` is ours."""
        return owner_of(symbol, self.online) == self._me
