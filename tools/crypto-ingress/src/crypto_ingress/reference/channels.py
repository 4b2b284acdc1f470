"""The bus's channels: topics, payloads, publishers and subscribers (`docs/design.md`, section 4)."""

from dataclasses import dataclass

from ingress_common.service_names import ADMIN_API, AGGREGATOR, GATEWAY, SERVICES, WRITER
from ingress_common.timeframes import TIMEFRAMES
from ingress_common.topics import Topics


@dataclass(frozen=True, slots=True)
class Sending:
    """One way in which `services` publish on a channel: the payloads' names, QoS and the retained flag."""

    name: str
    services: tuple[str, ...]
    payloads: tuple[str, ...]
    summary: str
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Channel:
    """A kind of topic. `address`: the topic with the default prefix and parameters in braces."""

    name: str
    address: str
    description: str
    sendings: tuple[Sending, ...]
    readers: tuple[str, ...]
    last_will: bool = False

    @property
    def payloads(self) -> tuple[str, ...]:
        """The names of all payloads on the channel, each once."""
        return tuple(dict.fromkeys(name for sending in self.sendings for name in sending.payloads))


PARAMETERS = {
    "symbol": ("The pair with a dash instead of the slash.", ("BTC-USD",)),
    "timeframe": ("The candle length.", tuple(timeframe.value for timeframe in TIMEFRAMES)),
    "feed": ("Name of a live connection to Kraken.", ("gateway-1-0",)),
    "service": ("Name of a service.", SERVICES),
    "instance": ("Name of a process (`INSTANCE_ID`).", ("aggregator-1",)),
}
"""Description and example values of each parameter; for timeframe and service, all values."""


def _with_parameters(topics: Topics) -> dict[str, str]:
    def shown(topic: str, *names: str) -> str:
        for name in names:
            topic = topic.replace("+", "{" + name + "}", 1)
        return topic

    return {
        "raw": shown(topics.raw("+"), "symbol"),
        "history": shown(topics.history("+", "+"), "symbol", "timeframe"),
        "feed": shown(topics.feed("+"), "feed"),
        "watermark": shown(topics.watermark("+"), "feed"),
        "candles": shown(topics.candles("+", "+"), "symbol", "timeframe"),
        "ending": shown(topics.ending("+", "+"), "symbol", "timeframe"),
        "seedRequest": topics.seed_requests(),
        "historyRequest": topics.history_requests(),
        "republishRequest": topics.republish_requests(),
        "status": shown(topics.status("+", "+"), "service", "instance"),
        "marks": shown(topics.marks(WRITER, "+"), "instance"),
        "deadLetter": shown(topics.dead_letter("+"), "service"),
    }


def channels(topics: Topics) -> tuple[Channel, ...]:
    """All channels under the prefix of `topics`."""
    address = _with_parameters(topics)
    return (
        Channel(
            "raw",
            address["raw"],
            "Raw 1m ticks: the state of the current minute as Kraken sent it.",
            (Sending("raw", (GATEWAY,), ("candle",), "At each update from Kraken."),),
            (AGGREGATOR, WRITER),
        ),
        Channel(
            "history",
            address["history"],
            "Snapshots and REST responses with the range that they cover. For a symbol that no gateway "
            "follows admin-api responds from the store.",
            (
                Sending("history", (GATEWAY,), ("history",), "In response to a seed or history request."),
                Sending(
                    "stored",
                    (ADMIN_API,),
                    ("history",),
                    "In response to a seed request for a symbol that no gateway follows.",
                ),
            ),
            (AGGREGATOR, ADMIN_API),
        ),
        Channel(
            "feed",
            address["feed"],
            "State of each live connection to Kraken.",
            (Sending("feed", (GATEWAY,), ("feed-state",), "When it changes.", retain=True),),
            (AGGREGATOR, WRITER, ADMIN_API),
            last_will=True,
        ),
        Channel(
            "watermark",
            address["watermark"],
            "The time up to which every tick of a feed's symbols has been published.",
            (Sending("watermark", (GATEWAY,), ("watermark",), "Once a second, and when a minute has ended."),),
            (AGGREGATOR, WRITER, ADMIN_API),
        ),
        Channel(
            "candles",
            address["candles"],
            "Candles. The retained message is the newest candle of its symbol and timeframe, closed or forming. An "
            "empty payload clears it: the symbol has ended or is no longer followed. Closed candles have the user "
            "properties `run` (one publisher's ownership of the symbol) and `seq` (number in it).",
            (
                Sending("closed", (AGGREGATOR,), ("candle",), "When the newest candle closes or changes.", retain=True),
                Sending("corrected", (AGGREGATOR,), ("candle",), "An older candle: correction, repair."),
                Sending(
                    "forming", (AGGREGATOR,), ("candle",), "The forming candle, when it changes.", qos=0, retain=True
                ),
            ),
            (WRITER, ADMIN_API, AGGREGATOR),
        ),
        Channel(
            "ending",
            address["ending"],
            "The last windows of symbols that are not traded any more: what traded in each, until it closes. An empty "
            "payload clears it.",
            (Sending("ending", (AGGREGATOR,), ("candle",), "When a symbol has ended.", retain=True),),
            (AGGREGATOR,),
        ),
        Channel(
            "seedRequest",
            address["seedRequest"],
            "Requests for the snapshots of all timeframes.",
            (
                Sending(
                    "seed",
                    (AGGREGATOR,),
                    ("seed-request",),
                    "When it gains a symbol, or finds one that ended while no aggregator ran.",
                ),
            ),
            (GATEWAY, ADMIN_API),
        ),
        Channel(
            "historyRequest",
            address["historyRequest"],
            "Requests for the candles of a range.",
            (Sending("request", (AGGREGATOR, ADMIN_API), ("history-request",), "For gaps, repair and self-check."),),
            (GATEWAY,),
        ),
        Channel(
            "republishRequest",
            address["republishRequest"],
            "Requests to republish closed candles. The user property `request` is the request's id; the last "
            "republished candle of each symbol carries the same id.",
            (
                Sending("republish", (WRITER,), ("republish-request",), "When it may have missed candles."),
                Sending(
                    "republish", (ADMIN_API,), ("republish-request",), "When the store lacks closed candles of the bus."
                ),
            ),
            (AGGREGATOR,),
        ),
        Channel(
            "marks",
            address["marks"],
            "Marks that a writer sends to itself: when one arrives, every message queued before it has arrived.",
            (Sending("mark", (WRITER,), ("mark",), "At a takeover, a handover, and before a request."),),
            (WRITER,),
        ),
        Channel(
            "status",
            address["status"],
            "The state of each instance. An empty retained message removes an instance for good.",
            (
                Sending(
                    "status",
                    SERVICES,
                    tuple(f"status-{service}" for service in SERVICES),
                    "When it changes, and at least every 5 s; the last will has the state `offline`.",
                    retain=True,
                ),
            ),
            SERVICES,
            last_will=True,
        ),
        Channel(
            "deadLetter",
            address["deadLetter"],
            "Messages that a service rejected, with the reason.",
            (Sending("deadLetter", SERVICES, ("dead-letter",), "When it rejects a message."),),
            (ADMIN_API,),
        ),
    )
