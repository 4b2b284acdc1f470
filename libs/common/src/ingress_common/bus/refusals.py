"""The messages that the broker refuses."""

from collections.abc import Callable

from ingress_common.logs import get_logger

_REMEMBERED_SECONDS = 25.0
_RECENT_SECONDS = 15.0
_MOST_TOPICS = 1_000
_LOG_SECONDS = 10.0

log = get_logger(__name__)


class Refusals:
    """The topics on which the broker refuses our messages, until it accepts one on them.

    Rights apply to a kind of topic (the topic without its last two levels), and some topics have a message a week. So
    an accepted message also clears the refusals of its kind that are older than 15 s. A topic without messages is
    forgotten after 25 s: nothing is refused meanwhile, and the right may be back. `steady`: a monotonic clock in
    seconds.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._topics: dict[str, tuple[str, float]] = {}
        self._log_at = float("-inf")
        self._unlogged = 0

    @property
    def problem(self) -> str:
        """The refused topics and the reason; empty if nothing is refused."""
        now = self._steady()
        self._topics = {t: entry for t, entry in self._topics.items() if now - entry[1] <= _REMEMBERED_SECONDS}
        if not self._topics:
            return ""
        topic, (reason, _) = next(reversed(self._topics.items()))
        others = f" and {len(self._topics) - 1} other topics" if len(self._topics) > 1 else ""
        return f"the broker refuses messages on {topic}{others}: {reason}"

    def refused(self, topic: str, reason: str, *, blamed: bool) -> None:
        """The broker refused a message; `blamed`: because of the message, not of its sender or topic.

        Logs the first one, then the number of further ones every 10 s.
        """
        now = self._steady()
        if not blamed:
            self._topics.pop(topic, None)
            if len(self._topics) < _MOST_TOPICS:
                self._topics[topic] = (reason, now)
        if now < self._log_at:
            self._unlogged += 1
            return
        log.warning("bus.publish-refused", topic=topic, reason=reason, unlogged_before=self._unlogged)
        self._log_at, self._unlogged = now + _LOG_SECONDS, 0

    def accepted(self, topic: str) -> None:
        """The broker accepted a message."""
        if not self._topics:
            return
        self._topics.pop(topic, None)
        kind, recent = _kind(topic), self._steady() - _RECENT_SECONDS
        ended = [t for t, (_, at) in self._topics.items() if at < recent and _kind(t) == kind]
        for other in ended:
            del self._topics[other]

    def forget(self) -> None:
        """The connection has ended: the next one may have other rights."""
        self._topics.clear()


def _kind(topic: str) -> str:
    return topic.rsplit("/", 2)[0]
