"""All topics of the bus (`docs/design.md`, section 4)."""

from dataclasses import dataclass
from functools import lru_cache
from sys import intern

from ingress_common.model import EXCHANGE
from ingress_common.timeframes import Timeframe

SYMBOL_LENGTH = 64
"""Maximum length of a symbol in characters; Kraken's longest have about 12."""

# Topics are cached, because building and splitting them for each message is slow. The cache holds those of all of
# Kraken's pairs, and its limits keep forged topics from filling the memory.
_REMEMBERED = 16_384
_REMEMBERED_LENGTH = 200


class TopicError(ValueError):
    """A topic or symbol does not have the form that the contract defines."""


@lru_cache(maxsize=_REMEMBERED)
def topic_symbol(symbol: str) -> str:
    """A symbol as topics and URLs write it: `BTC/USD` becomes `BTC-USD`. TopicError if it is malformed."""
    if len(symbol) > SYMBOL_LENGTH:
        raise TopicError(f"expected a symbol of at most {SYMBOL_LENGTH} characters, got {len(symbol)}")
    base, slash, quote = symbol.partition("/")
    # Refuse quotes and backslashes: symbols are written into JSON, queries and line protocol without escaping.
    if not (base and slash and quote) or any(
        c in "+#/-\"'`\\" or c.isspace() or not c.isprintable() for c in base + quote
    ):
        raise TopicError(f"expected a symbol such as BTC/USD, got {symbol!r}")
    return f"{base}-{quote}"


def symbol_of(text: str) -> str:
    """The symbol in a topic level or URL part: `BTC-USD` becomes `BTC/USD`. TopicError if it is malformed."""
    base, dash, quote = text.partition("-")
    symbol = f"{base}/{quote}"
    if not dash:
        raise TopicError(f"expected a symbol such as BTC-USD, got {text!r}")
    topic_symbol(symbol)
    return symbol


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics and filters under one prefix. Pass `+` as symbol or timeframe to get a filter."""

    prefix: str = "ingress"

    def raw(self, symbol: str) -> str:
        """Raw 1m ticks of `symbol`."""
        return _series_topic(self.prefix, "raw", symbol, "1m")

    def history(self, symbol: str, timeframe: Timeframe | str) -> str:
        """History batches of `symbol` and `timeframe`."""
        return _series_topic(self.prefix, "history", symbol, timeframe)

    def candles(self, symbol: str, timeframe: Timeframe | str) -> str:
        """Candles of `symbol` and `timeframe`, retained."""
        return _series_topic(self.prefix, "candles", symbol, timeframe)

    def ending(self, symbol: str, timeframe: Timeframe | str) -> str:
        """The last state of a window of a `symbol` that has ended, retained until that window closes."""
        return _series_topic(self.prefix, "ending", symbol, timeframe)

    def feed(self, feed: str) -> str:
        """State of `feed`, retained."""
        return f"{self.prefix}/feed/{EXCHANGE}/{feed}"

    def watermark(self, feed: str) -> str:
        """Watermarks of `feed`."""
        return f"{self.prefix}/feed/{EXCHANGE}/{feed}/watermark"

    def seed_requests(self) -> str:
        """Requests for seeds."""
        return f"{self.prefix}/request/{EXCHANGE}/seed"

    def history_requests(self) -> str:
        """Requests for history."""
        return f"{self.prefix}/request/{EXCHANGE}/history"

    def republish_requests(self) -> str:
        """Requests to republish closed candles."""
        return f"{self.prefix}/request/{EXCHANGE}/republish"

    def status(self, service: str, instance: str) -> str:
        """Status of an instance, retained."""
        return f"{self.prefix}/status/{service}/{instance}"

    def marks(self, service: str, instance: str) -> str:
        """Marks that an instance sends to itself, to know that every earlier message has arrived."""
        return f"{self.status(service, instance)}/marks"

    def dead_letter(self, service: str) -> str:
        """Messages that `service` rejected."""
        return f"{self.prefix}/dead-letter/{service}"

    def split(self, topic: str) -> tuple[str, ...]:
        """The levels of `topic` after the prefix; TopicError if it has another prefix."""
        return (_remembered_levels if len(topic) <= _REMEMBERED_LENGTH else _levels)(self.prefix, topic)


def _levels(prefix: str, topic: str) -> tuple[str, ...]:
    head = prefix + "/"
    if not topic.startswith(head):
        raise TopicError(f"expected a topic under {head}, got {topic!r}")
    # Few levels differ: the remembered ones share their texts.
    return tuple(map(intern, topic[len(head) :].split("/")))


_remembered_levels = lru_cache(maxsize=_REMEMBERED)(_levels)


@lru_cache(maxsize=_REMEMBERED)
def _series_topic(prefix: str, kind: str, symbol: str, timeframe: Timeframe | str) -> str:
    level = "+" if symbol == "+" else topic_symbol(symbol)
    name = timeframe.value if isinstance(timeframe, Timeframe) else timeframe
    return f"{prefix}/{kind}/{EXCHANGE}/{level}/{name}"
