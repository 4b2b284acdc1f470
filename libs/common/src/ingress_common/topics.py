"""The bus's topics, in one place (`design.md`, section 4)."""

from dataclasses import dataclass

from ingress_common.model import EXCHANGE
from ingress_common.timeframes import Timeframe

SYMBOL_LENGTH = 64
"""Characters that a symbol may have; Kraken's longest have about 12."""


class TopicError(ValueError):
    """A topic or symbol that is not of the contract's form."""


def topic_symbol(symbol: str) -> str:
    """`BTC/USD` as it is written in a topic and in a URL: `BTC-USD`. TopicError if it cannot be."""
    if len(symbol) > SYMBOL_LENGTH:
        raise TopicError(f"expected a symbol of at most {SYMBOL_LENGTH} characters, got {len(symbol)}")
    base, slash, quote = symbol.partition("/")
    # Quotes and backslashes would have to be escaped wherever a symbol is written into JSON, a query or a line.
    if not (base and slash and quote) or any(
        c in "+#/-\"'`\\" or c.isspace() or not c.isprintable() for c in base + quote
    ):
        raise TopicError(f"expected a symbol such as BTC/USD, got {symbol!r}")
    return f"{base}-{quote}"


def symbol_of(text: str) -> str:
    """The symbol of a topic level or URL part: `BTC-USD` is BTC/USD. TopicError if it is not of that form."""
    base, dash, quote = text.partition("-")
    symbol = f"{base}/{quote}"
    if not dash:
        raise TopicError(f"expected a symbol such as BTC-USD, got {text!r}")
    topic_symbol(symbol)
    return symbol


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics and filters under one prefix. A symbol or timeframe given as `+` makes a filter."""

    prefix: str = "ingress"

    def raw(self, symbol: str) -> str:
        """Raw 1m ticks of `symbol`."""
        return f"{self.prefix}/raw/{EXCHANGE}/{_level(symbol)}/1m"

    def history(self, symbol: str, timeframe: Timeframe | str) -> str:
        """History batches of `symbol` and `timeframe`."""
        return f"{self.prefix}/history/{EXCHANGE}/{_level(symbol)}/{_name(timeframe)}"

    def candles(self, symbol: str, timeframe: Timeframe | str) -> str:
        """Candles of `symbol` and `timeframe`, retained."""
        return f"{self.prefix}/candles/{EXCHANGE}/{_level(symbol)}/{_name(timeframe)}"

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

    def status(self, service: str, instance: str) -> str:
        """Status of an instance, retained."""
        return f"{self.prefix}/status/{service}/{instance}"

    def attempts(self, service: str, instance: str) -> str:
        """The connection attempts that an instance has made lately, retained."""
        return f"{self.status(service, instance)}/attempts"

    def dead_letter(self, service: str) -> str:
        """What `service` could not use."""
        return f"{self.prefix}/dead-letter/{service}"

    def split(self, topic: str) -> tuple[str, ...]:
        """The levels of `topic` after the prefix; TopicError if it has another prefix."""
        head = self.prefix + "/"
        if not topic.startswith(head):
            raise TopicError(f"expected a topic under {head}, got {topic!r}")
        return tuple(topic[len(head) :].split("/"))


def _level(symbol: str) -> str:
    return "+" if symbol == "+" else topic_symbol(symbol)


def _name(timeframe: Timeframe | str) -> str:
    return timeframe.value if isinstance(timeframe, Timeframe) else timeframe
