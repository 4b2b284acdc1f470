"""JSON schemas (draft 7) of the bus's payloads, made from the types that decode them.

They describe what is published: every field is there, prices are numbers and times RFC 3339 in UTC. Readers are to
ignore fields that they do not know.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec

from crypto_ingress.reference.statuses import STATUSES
from ingress_common import payloads
from ingress_common.model import (
    Candle,
    DeadLetter,
    FeedCondition,
    FeedState,
    History,
    HistoryRequest,
    Presence,
    Range,
    SeedRequest,
    Source,
    Status,
    Watermark,
)
from ingress_common.timeframes import Timeframe

JsonSchema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"

_TIME = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$",
}
_SYMBOL = {"type": "string", "pattern": "^[^\\s+#/-]+/[^\\s+#/-]+$"}
_NUMBER = {"type": "number", "minimum": 0}
_ENUMS: Mapping[str, type[Enum]] = {kind.__name__: kind for kind in (Timeframe, Source, FeedCondition, Presence)}

_TIMES = frozenset({"open_time", "close_time", "at", "from", "to", "since", "watermark", "started_at", "last_commit"})
_COUNTS = frozenset({"trades", "revision"})

_PURPOSE: Mapping[str, str] = {
    "candle": "A candle; its identity is (exchange, symbol, timeframe, open_time), and a repeat replaces it.",
    "history": "A batch of candles that Kraken gave in answer to a question, and the time that it speaks for.",
    "feed-state": "State of one live connection to Kraken.",
    "watermark": "Up to when everything of a feed's symbols has been published.",
    "seed-request": "Asks the gateway for the snapshots of all seven timeframes.",
    "history-request": "Asks the gateway for the candles of a timeframe and range.",
    "status": "State of one instance of a service; each service adds fields of its own (`status-<service>`).",
    "attempts": "The attempts to connect to Kraken that a gateway has made in the last ten minutes.",
    "dead-letter": "A message that a service could not use.",
}

_MEANING: Mapping[str, str] = {
    "at": "When the gateway received the tick, history or watermark that led to this message, in Kraken's time.",
    "attempts": "When each was made, in seconds since 1970 by the gateway's clock, oldest first.",
    "candles": "The rows, oldest first.",
    "close": "Price of the last trade.",
    "close_time": "End of the window, which is the open of the next one.",
    "closed": "The window is over and settled; it changes only by a correction.",
    "complete": "Every minute of it is known.",
    "covers": "The time that the batch speaks for: an interval of it without a row did not trade.",
    "exchange": "Always kraken.",
    "feed": "Name of the live connection.",
    "from": "Where the range begins.",
    "high": "Highest price.",
    "infilled": "Nothing traded: flat at the last close, volume and trades 0.",
    "instance": "Name of the process (`INSTANCE_ID`).",
    "low": "Lowest price.",
    "open": "Price of the first trade.",
    "open_time": "Start of the window, aligned to the Unix epoch in UTC.",
    "payload": "The message as text; where it is not UTF-8, base64 behind `base64:`.",
    "reason": "Why it could not be used.",
    "rejected": "Symbols that Kraken refuses, with its reason.",
    "revision": "0 at first, higher with every correction of the closed candle.",
    "run": "A random name of the process, which tells two with one instance name apart.",
    "service": "Name of the service.",
    "since": "When the state began; a live feed's watermarks speak for the time from then on.",
    "source": "Where the numbers come from.",
    "started_at": "When the process started.",
    "state": "Whether it is there.",
    "symbol": "The pair as Kraken's WebSocket v2 calls it.",
    "symbols": "The pairs.",
    "timeframe": "The candle length.",
    "to": "Where the range ends; not part of it.",
    "topic": "The topic that it came on.",
    "trades": "Number of trades.",
    "version": "Version of the service.",
    "volume": "Sum of what was traded, in the base currency.",
    "vwap": "Volume-weighted average price.",
    "watermark": "Everything of the feed's symbols up to then has been published (Kraken's time).",
}

_CANDLE = Candle(
    symbol="BTC/USD",
    timeframe=Timeframe.M5,
    open_time=1_708_827_300,
    open=Decimal("51600.1"),
    high=Decimal("51610.0"),
    low=Decimal("51600.1"),
    close=Decimal("51605.2"),
    volume=Decimal("1.20480000"),
    vwap=Decimal("51604.3"),
    trades=17,
    closed=True,
    infilled=False,
    complete=True,
    revision=0,
    source=Source.ROLLUP,
    at=1_708_827_601.104211,
)
_SPAN = Range(1_708_827_300.0, 1_708_827_600.0)
_STARTED = 1_708_820_000.0

_EXAMPLES: Mapping[str, bytes] = {
    "candle": payloads.encode_candle(_CANDLE),
    "history": payloads.encode_history(
        History("BTC/USD", Timeframe.M5, Source.REST, _SPAN, (replace(_CANDLE, source=Source.REST),))
    ),
    "feed-state": payloads.encode_feed_state(
        FeedState("gateway-1-0", FeedCondition.LIVE, _STARTED, ("BTC/USD", "ETH/USD"), {"XBT/USD": "not supported"})
    ),
    "watermark": payloads.encode_watermark(Watermark("gateway-1-0", 1_708_827_600.1, 1_708_827_601.1)),
    "seed-request": payloads.encode_seed_request(SeedRequest(("BTC/USD",))),
    "history-request": payloads.encode_history_request(HistoryRequest(("BTC/USD",), Timeframe.M1, _SPAN)),
    "status": payloads.encode_status(Status("aggregator", "aggregator-1", Presence.OFFLINE, "0.1.0", _STARTED)),
    "attempts": payloads.encode_attempts((1_708_827_001.25, 1_708_827_300.5)),
    "dead-letter": payloads.encode_dead_letter(
        DeadLetter("ingress/raw/kraken/BTC-USD/1m", "{", "expected a Candle as JSON", _STARTED)
    ),
}


def payload_schemas(reference: str) -> dict[str, JsonSchema]:
    """The schema of every payload by its name, also `status-<service>`.

    `reference` makes the address of another schema from its name, such as `{name}.json`.
    """
    schemas = {name: _described(name, kind, reference) for name, kind in payloads.WIRE.items()}
    for service, kind in STATUSES.items():
        schemas[f"status-{service}"] = _status(service, kind, schemas["status"])
    return schemas


def _described(name: str, kind: type[msgspec.Struct], reference: str) -> JsonSchema:
    known = {other: reference.format(name=payload) for payload, other in payloads.WIRE.items() if other is not kind}
    schema = _object(kind, {kind.__name__: address for kind, address in known.items()})
    example = json.loads(_EXAMPLES[name])
    schema["properties"] = {field: schema["properties"][field] for field in example}
    return {"title": name, "description": _PURPOSE[name], **schema, "examples": [example]}


def _status(service: str, kind: type[msgspec.Struct], base: JsonSchema) -> JsonSchema:
    details = _object(kind, {})
    run = {"type": "string", "description": _MEANING["run"]}
    told = ["run", *details["required"]]
    return {
        "title": f"status-{service}",
        "description": f"State of an instance of {service}. All fields while it is online, the first five at its end.",
        "type": "object",
        "properties": {
            **base["properties"],
            "service": {**base["properties"]["service"], "const": service},
            "run": run,
            **details["properties"],
        },
        "required": base["required"],
        "if": {"properties": {"state": {"const": "online"}}},
        "then": {"required": told},
    }


def _object(kind: type[msgspec.Struct], known: Mapping[str, str]) -> JsonSchema:
    """The schema of `kind`; `known` are the addresses of types that have schemas of their own."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    return _rendered(components[schema["$ref"]], components, known)


def _rendered(struct: JsonSchema, components: Mapping[str, JsonSchema], known: Mapping[str, str]) -> JsonSchema:
    properties = {
        name: {**_field(name, field, components, known), "description": field.get("description") or _MEANING[name]}
        for name, field in struct["properties"].items()
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _field(name: str, field: JsonSchema, components: Mapping[str, JsonSchema], known: Mapping[str, str]) -> JsonSchema:
    if name in _TIMES:
        return {**_TIME, "type": ["string", "null"]} if name == "last_commit" else dict(_TIME)
    if name == "symbol":
        return dict(_SYMBOL)
    if name == "owned_since":
        return {"type": "object", "additionalProperties": dict(_TIME)}
    if name in _COUNTS:
        return {"type": "integer", "minimum": 0}
    return _resolved(field, components, known)


def _resolved(field: JsonSchema, components: Mapping[str, JsonSchema], known: Mapping[str, str]) -> JsonSchema:
    if field.get("format") == "decimal":
        return dict(_NUMBER)
    if "$ref" in field:
        name = field["$ref"]
        if name in known:
            return {"$ref": known[name]}
        if name in _ENUMS:
            return {"enum": [member.value for member in _ENUMS[name]]}
        return _rendered(components[name], components, known)
    kept = {key: value for key, value in field.items() if key not in ("default", "description", "title")}
    for inner in ("items", "additionalProperties"):
        if inner in kept:
            kept[inner] = _resolved(kept[inner], components, known)
    return kept
