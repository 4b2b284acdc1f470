"""JSON schemas (draft 7) of the bus's payloads, generated from the types that decode them.

They describe published payloads: every field is present, prices are numbers, times are RFC 3339 in UTC. Subscribers
must ignore unknown fields.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
from msgspec.structs import replace

from crypto_ingress.reference.statuses import STATUSES
from ingress_common import payloads
from ingress_common.model import (
    Candle,
    DeadLetter,
    FeedCondition,
    FeedState,
    History,
    HistoryRequest,
    InstanceState,
    Range,
    RepublishRequest,
    SeedRequest,
    Source,
    Status,
    Watermark,
)
from ingress_common.service_names import AGGREGATOR
from ingress_common.settings import PUBLISHED_SECRETS, SHORT_SECRETS
from ingress_common.timeframes import Timeframe
from ingress_common.times import UnixSeconds, UnixTime

JsonSchema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"

_TIME = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$",
}
_SYMBOL = {"type": "string", "pattern": "^[^\\s+#/-]+/[^\\s+#/-]+$"}
_NUMBER = {"type": "number", "minimum": 0}
_ENUMS: Mapping[str, type[Enum]] = {kind.__name__: kind for kind in (Timeframe, Source, FeedCondition, InstanceState)}

_TIMES = frozenset(
    {
        *("open_time", "close_time", "at", "from", "to", "since", "watermark"),
        *("started_at", "last_commit", "missing_since"),
    }
)
_NULLABLE_TIMES = frozenset({"last_commit", "missing_since"})
_COUNTS = frozenset({"trades", "revision"})

_PURPOSE: Mapping[str, str] = {
    "candle": "A candle. One with the same (exchange, symbol, timeframe, open_time) replaces it.",
    "history": "A batch of candles from a Kraken response, and the range that it covers.",
    "feed-state": "State of one live connection to Kraken.",
    "watermark": "The time up to which every tick of a feed's symbols has been published.",
    "seed-request": "A request to the gateway for the snapshots of all timeframes.",
    "history-request": "A request to the gateway for the candles of a timeframe and range.",
    "republish-request": "A request to the aggregator to republish closed candles, selected by their `at`.",
    "status": "State of one instance of a service; each service adds fields of its own (`status-<service>`).",
    "mark": "A numbered message that a writer sends to itself.",
    "dead-letter": "A message that a service rejected.",
}

_MEANING: Mapping[str, str] = {
    "at": "When the gateway received the tick, history or watermark behind this message, in Kraken's time.",
    "candles": "The rows, oldest first.",
    "close": "Price of the last trade.",
    "close_time": "End of the window, which is the next candle's open time.",
    "closed": "The window has ended and its data is final; only a correction changes it.",
    "complete": "Every minute of it is known.",
    "details": "Further fields of the service.",
    "covers": "The range in which the batch is complete: an interval without a row had no trades.",
    "exchange": "Always kraken.",
    "feed": "Name of the live connection.",
    "from": "Start of the range.",
    "high": "Highest price.",
    "infilled": "No trades: flat at the last close, volume and trades 0.",
    "instance": "Name of the process (`INSTANCE_ID`).",
    "low": "Lowest price.",
    "number": "Increases by one with each mark.",
    "open": "Price of the first trade.",
    "open_time": "Start of the window, aligned to the Unix epoch in UTC.",
    "payload": "The rejected payload as text; if it is not UTF-8, base64 with the prefix `base64:`.",
    "published_secrets": "Variables whose secrets stand in the repository. Absent if there is none.",
    "reason": "Why it was rejected.",
    "rejected": "Symbols that Kraken rejects, with Kraken's error text.",
    "revision": "Starts at 0 and rises with each correction of the closed candle.",
    "run": "A random id of the process, which distinguishes two processes with one instance name.",
    "service": "Name of the service.",
    "short_secrets": "Variables whose secrets have fewer than 16 characters. Absent if there is none.",
    "since": "Start of the state; a live feed's watermarks cover the time from then on.",
    "source": "Origin of the numbers.",
    "started_at": "When the process started.",
    "state": "Whether it is up.",
    "symbol": "The pair as Kraken's WebSocket v2 names it.",
    "symbols": "The pairs.",
    "timeframe": "The candle length.",
    "to": "End of the range, not part of it.",
    "topic": "The topic of the rejected message.",
    "trades": "Number of trades.",
    "version": "Version of the service.",
    "volume": "Traded volume in the base currency.",
    "vwap": "Volume-weighted average price.",
    "watermark": "Every tick of the feed's symbols up to this time has been published (Kraken's time).",
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
    "history-request": payloads.encode_history_request(
        HistoryRequest(("BTC/USD",), Timeframe.M1, _SPAN.start, _SPAN.end)
    ),
    "republish-request": payloads.encode_republish_request(RepublishRequest(("BTC/USD",), _SPAN.start, _SPAN.end)),
    "mark": payloads.encode_mark(17),
    "status": payloads.encode_status(Status(AGGREGATOR, "aggregator-1", InstanceState.OFFLINE, "0.1.0", _STARTED)),
    "dead-letter": payloads.encode_dead_letter(
        DeadLetter("ingress/raw/kraken/BTC-USD/1m", "{", "expected a Candle as JSON", _STARTED)
    ),
}


def payload_schemas(reference: str) -> dict[str, JsonSchema]:
    """The schema of every payload by its name, including `status-<service>`.

    `reference`: template for the address of another schema, such as `{name}.json`.
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
    schema["required"] = list(example)
    return {"title": name, "description": _PURPOSE[name], **schema, "examples": [example]}


def _status(service: str, kind: type[msgspec.Struct], base: JsonSchema) -> JsonSchema:
    details = _object(kind, {})
    run = {"type": "string", "description": _MEANING["run"]}
    unsafe = {
        kind: {"type": "array", "items": {"type": "string"}, "description": _MEANING[kind]}
        for kind in (PUBLISHED_SECRETS, SHORT_SECRETS)
    }
    online = ["run", *details["required"]]
    return {
        "title": f"status-{service}",
        "description": f"State of an instance of {service}: all fields while online, only the first five when offline.",
        "type": "object",
        "properties": {
            **base["properties"],
            "service": {**base["properties"]["service"], "const": service},
            "run": run,
            **unsafe,
            **details["properties"],
        },
        "required": base["required"],
        "if": {"properties": {"state": {"const": "online"}}},
        "then": {"required": online},
    }


def _object(kind: type[msgspec.Struct], known: Mapping[str, str]) -> JsonSchema:
    """The schema of `kind`. `known`: addresses of types that have their own schemas."""
    (schema,), components = msgspec.json.schema_components([kind], schema_hook=_time, ref_template="{name}")
    return _rendered(components[schema["$ref"]], components, known)


def _time(kind: type) -> JsonSchema:
    """The schema of an instant: a number in memory, text in a payload."""
    if kind in (UnixSeconds, UnixTime):
        return dict(_TIME)
    raise NotImplementedError(f"expected an instant, got {kind.__name__}")


def _rendered(struct: JsonSchema, components: Mapping[str, JsonSchema], known: Mapping[str, str]) -> JsonSchema:
    properties = {
        name: {**_field(name, field, components, known), "description": field.get("description") or _MEANING[name]}
        for name, field in struct["properties"].items()
    }
    if "open_time" in properties:
        # Published but not a field of the type: it follows from the open time.
        properties["close_time"] = {**_TIME, "description": _MEANING["close_time"]}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _field(name: str, field: JsonSchema, components: Mapping[str, JsonSchema], known: Mapping[str, str]) -> JsonSchema:
    if name in _TIMES:
        return {**_TIME, "type": ["string", "null"]} if name in _NULLABLE_TIMES else dict(_TIME)
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
