"""The AsyncAPI 3.0 description of the bus."""

import re
from collections.abc import Mapping
from typing import Any

from crypto_ingress.reference.channels import PARAMETERS, Channel, Sending, channels
from crypto_ingress.reference.schemas import payload_schemas
from ingress_common.topics import Topics

_BINDING_VERSION = "0.2.0"
_WHOLE = ("timeframe", "service")


def asyncapi(version: str) -> dict[str, Any]:
    """The description as JSON values. `version`: the project's version."""
    all_channels = channels(Topics())
    schemas = payload_schemas("#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Crypto Ingress",
            "version": version,
            "description": "Kraken's candles, complete and correct, on an MQTT bus. Topics begin with "
            "`INGRESS_TOPIC_PREFIX`, here its default `ingress`. Generated from the code by `make docs`.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "localhost:1883",
                "protocol": "mqtt",
                "protocolVersion": "5.0",
                "description": "The broker that `MQTT_URL` names; the user `viewer` may read everything.",
            }
        },
        "channels": {channel.name: _channel(channel) for channel in all_channels},
        "operations": _operations(all_channels),
        "components": {"messages": _messages(schemas), "schemas": schemas},
    }


def _messages(schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "name": name,
            "title": name,
            "summary": schema["description"],
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{name}"},
            **({"examples": [{"payload": example} for example in schema["examples"]]} if "examples" in schema else {}),
        }
        for name, schema in schemas.items()
        if name != "status"
    }


def _channel(channel: Channel) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", channel.address)
    described: dict[str, Any] = {
        "address": channel.address,
        "description": channel.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in channel.payloads},
    }
    if names:
        described["parameters"] = {name: _parameter(name) for name in names}
    return described


def _parameter(name: str) -> dict[str, Any]:
    description, values = PARAMETERS[name]
    return {"description": description, "enum" if name in _WHOLE else "examples": list(values)}


def _operations(all_channels: tuple[Channel, ...]) -> dict[str, Any]:
    operations: dict[str, Any] = {}
    for channel in all_channels:
        for sending in channel.sendings:
            for service in sending.services:
                operations[f"{service}.send.{channel.name}.{sending.name}"] = _send(channel, sending, service)
        for service in channel.readers:
            operations[f"{service}.receive.{channel.name}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{channel.name}"},
                "summary": f"{service} receives: {channel.description}",
                "tags": [{"name": service}],
                "bindings": {"mqtt": {"qos": 1, "bindingVersion": _BINDING_VERSION}},
            }
    return operations


def _send(channel: Channel, sending: Sending, service: str) -> dict[str, Any]:
    own = [name for name in sending.payloads if not name.startswith("status-") or name == f"status-{service}"]
    will = " Also as last will." if channel.last_will else ""
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": f"{service} publishes: {sending.summary}{will}",
        "tags": [{"name": service}],
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{name}"} for name in own],
        "bindings": {"mqtt": {"qos": sending.qos, "retain": sending.retain, "bindingVersion": _BINDING_VERSION}},
    }
