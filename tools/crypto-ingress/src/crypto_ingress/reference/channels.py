"""The bus's channels: their topics, what is published on them, by whom and for whom (`design.md`, section 4)."""

from dataclasses import dataclass

from ingress_common.topics import Topics

GATEWAY, AGGREGATOR, WRITER, ADMIN = "kraken-gateway", "aggregator", "influx-writer", "admin-api"
SERVICES = (GATEWAY, AGGREGATOR, WRITER, ADMIN)


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
    """A kind of topic. `address` has the contract's default prefix; braces are parameters."""

    name: str
    address: str
    description: str
    sendings: tuple[Sending, ...]
    readers: tuple[str, ...]
    last_will: bool = False

    @property
    def payloads(self) -> tuple[str, ...]:
        """The names of all payloads that may come on it, each once."""
        return tuple(dict.fromkeys(name for sending in self.sendings for name in sending.payloads))


PARAMETERS = {
    "symbol": ("The pair with a dash in place of the slash.", ("BTC-USD",)),
    "timeframe": ("The candle length.", ("1m", "5m", "15m", "1h", "4h", "1d", "1w")),
    "feed": ("Name of a live connection to Kraken.", ("gateway-1-0",)),
    "service": ("Name of a service.", SERVICES),
    "instance": ("Name of a process (`INSTANCE_ID`).", ("aggregator-1",)),
}
"""What stands for a parameter of an address: its meaning and examples; of timeframe and service all that there are."""


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
        "seedRequest": topics.seed_requests(),
        "historyRequest": topics.history_requests(),
        "status": shown(topics.status("+", "+"), "service", "instance"),
        "attempts": shown(topics.attempts(GATEWAY, "+"), "instance"),
        "deadLetter": shown(topics.dead_letter("+"), "service"),
    }


def channels(topics: Topics) -> tuple[Channel, ...]:
    """All channels under the prefix of `topics`."""
    address = _with_parameters(topics)
    return (
        Channel(
            "raw",
            address["raw"],
            "Raw 1m ticks: the state of the current minute, as Kraken sent it.",
            (Sending("raw", (GATEWAY,), ("candle",), "At each update that Kraken sends."),),
            (AGGREGATOR, WRITER),
        ),
        Channel(
            "history",
            address["history"],
            "Snapshots and REST answers, with the time that they speak for.",
            (Sending("history", (GATEWAY,), ("history",), "In answer to a seed or history request."),),
            (AGGREGATOR, ADMIN),
        ),
        Channel(
            "feed",
            address["feed"],
            "State of each live connection to Kraken.",
            (Sending("feed", (GATEWAY,), ("feed-state",), "When it has changed.", retain=True),),
            (AGGREGATOR, ADMIN),
            last_will=True,
        ),
        Channel(
            "watermark",
            address["watermark"],
            "Up to when everything of a feed's symbols has been published.",
            (Sending("watermark", (GATEWAY,), ("watermark",), "Once a second, and when a minute has ended."),),
            (AGGREGATOR, ADMIN),
        ),
        Channel(
            "candles",
            address["candles"],
            "Candles. The retained message is the newest candle of its symbol and timeframe, closed or forming.",
            (
                Sending("closed", (AGGREGATOR,), ("candle",), "When the newest candle closes or changes.", retain=True),
                Sending("corrected", (AGGREGATOR,), ("candle",), "A candle older than the newest: correction, repair."),
                Sending("forming", (AGGREGATOR,), ("candle",), "The forming candle, as it moves.", qos=0, retain=True),
            ),
            (WRITER, ADMIN, AGGREGATOR),
        ),
        Channel(
            "seedRequest",
            address["seedRequest"],
            "Requests for the snapshots of all timeframes.",
            (Sending("seed", (AGGREGATOR,), ("seed-request",), "When it takes a symbol on."),),
            (GATEWAY,),
        ),
        Channel(
            "historyRequest",
            address["historyRequest"],
            "Requests for the candles of a range.",
            (Sending("ask", (AGGREGATOR, ADMIN), ("history-request",), "For gaps, repair and self-check."),),
            (GATEWAY,),
        ),
        Channel(
            "status",
            address["status"],
            "Presence of each instance. An empty retained message takes one back that is gone for good.",
            (
                Sending(
                    "status",
                    SERVICES,
                    tuple(f"status-{service}" for service in SERVICES),
                    "When it has changed, and at least every 5 s; the last will says offline.",
                    retain=True,
                ),
            ),
            SERVICES,
            last_will=True,
        ),
        Channel(
            "attempts",
            address["attempts"],
            "When an instance has tried to connect to Kraken in the last ten minutes, for its next life.",
            (Sending("attempts", (GATEWAY,), ("attempts",), "Before each attempt.", retain=True),),
            (GATEWAY,),
        ),
        Channel(
            "deadLetter",
            address["deadLetter"],
            "Messages that a service could not use, with the reason.",
            (Sending("letter", SERVICES, ("dead-letter",), "When it gets a message that it cannot use."),),
            (ADMIN,),
        ),
    )
