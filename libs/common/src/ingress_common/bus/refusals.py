"""The messages that the broker refuses."""

from collections.abc import Callable
from typing import NamedTuple

from ingress_common.bus.publication import Publication
from ingress_common.logs import get_logger

RETRY_SECONDS = 8.0
"""Seconds until a refused message is published again."""

_REMEMBERED_SECONDS = 25.0
_MOST_TOPICS = 1_000
_MOST_BYTES = 4 * 1024 * 1024
_LOG_SECONDS = 10.0

log = get_logger(__name__)


class _Refused(NamedTuple):
    reason: str
    at: float
    message: Publication | None


class Refusals:
    """The topics on which the broker refuses our messages, until it accepts one on them.

    Some topics have a message a minute or a week. So the last refused message of each is published again (`due`) until
    the broker accepts it: refusals are known as long as they last, and over soon after. Of what is too large to keep
    the topic is remembered for 25 s. `steady`: a monotonic clock in seconds.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._topics: dict[str, _Refused] = {}
        self._bytes = 0
        self._log_at = float("-inf")
        self._unlogged = 0

    def __bool__(self) -> bool:
        """Whether any topic is remembered."""
        return bool(self._topics)

    @property
    def problem(self) -> str:
        """The refused topics and the reason; empty if nothing is refused."""
        earliest = self._steady() - _REMEMBERED_SECONDS
        for topic in [topic for topic, refused in self._topics.items() if refused.at < earliest]:
            self.accepted(topic)
        if not self._topics:
            return ""
        topic, refused = next(reversed(self._topics.items()))
        others = f" and {len(self._topics) - 1} other topics" if len(self._topics) > 1 else ""
        return f"the broker refuses messages on {topic}{others}: {refused.reason}"

    def refused(self, message: Publication, reason: str, *, blamed: bool) -> None:
        """The broker refused `message`; `blamed`: because of the message, not of its sender or topic.

        Logs the first one, then the number of further ones every 10 s.
        """
        now = self._steady()
        if not blamed:
            self.accepted(message.topic)
            if len(self._topics) < _MOST_TOPICS:
                fits = self._bytes + message.size <= _MOST_BYTES
                self._topics[message.topic] = _Refused(reason, now, message if fits else None)
                self._bytes += message.size if fits else 0
        if now < self._log_at:
            self._unlogged += 1
            return
        log.warning("bus.publish-refused", topic=message.topic, reason=reason, unlogged_before=self._unlogged)
        self._log_at, self._unlogged = now + _LOG_SECONDS, 0

    def accepted(self, topic: str) -> None:
        """The broker accepted a message."""
        refused = self._topics.pop(topic, None)
        if refused is not None and refused.message is not None:
            self._bytes -= refused.message.size

    def superseded(self, topic: str) -> None:
        """A later message is on its way to the broker: an earlier one must not follow it."""
        refused = self._topics.get(topic)
        if refused is not None and refused.message is not None:
            self._bytes -= refused.message.size
            self._topics[topic] = refused._replace(message=None)

    def due(self) -> list[Publication]:
        """The messages to publish again."""
        latest = self._steady() - RETRY_SECONDS
        return [one.message for one in self._topics.values() if one.message is not None and one.at <= latest]

    def keeps(self, message: Publication) -> bool:
        """Whether nothing has happened on the topic of a refused message since."""
        refused = self._topics.get(message.topic)
        return refused is not None and refused.message is message

    def forget(self) -> None:
        """The connection has ended: the next one may have other rights."""
        self._topics.clear()
        self._bytes = 0
