"""Everything that a running demo publishes is what `docs/asyncapi.json` and `docs/schemas` say: channel, payload, QoS
and retained flag.
"""

import json
import re
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from documented_demo import DocumentedDemo
from schemas import load_schemas, validator

ASYNCAPI = json.loads((Path(__file__).parents[2] / "docs/asyncapi.json").read_text())
SERVICES = ("kraken-gateway", "aggregator", "influx-writer", "admin-api")
_SECONDS = 240.0
_POISON = b'{"what": "is this"'

pytestmark = pytest.mark.timeout(420)


@dataclass(frozen=True)
class Published:
    """A message as it was published: its QoS and retained flag are the publisher's."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Listener:
    """Keeps everything that is published from now on."""

    def __init__(self, port: int) -> None:
        self.messages: list[Published] = []
        self._subscribed = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="listener", protocol=paho.MQTTv5)
        self.client.on_message = self._keep
        self.client.on_connect = self._subscribe
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._subscribed.wait(20)

    def _subscribe(self, client: paho.Client, _data: Any, _flags: Any, _reason: Any, _properties: Properties) -> None:
        client.subscribe("ingress/#", options=SubscribeOptions(qos=2, retainAsPublished=True))

    def _keep(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self.messages.append(Published(message.topic, message.payload, message.qos, message.retain))

    def published(self) -> list[Published]:
        """What the services have published, without what we have poisoned them with."""
        return [message for message in list(self.messages) if message.payload != _POISON]


class Description:
    """The description's channels and what it lets be sent on them."""

    def __init__(self) -> None:
        self._channels = {
            name: re.compile(re.sub(r"\\{\w+\\}", "([^/]+)", re.escape(channel["address"])))
            for name, channel in ASYNCAPI["channels"].items()
        }
        self._sendings: dict[str, list[Any]] = {}
        for operation in ASYNCAPI["operations"].values():
            if operation["action"] == "send":
                channel = operation["channel"]["$ref"].rpartition("/")[2]
                self._sendings.setdefault(channel, []).append(operation)

    def channel_of(self, topic: str) -> str:
        found = [name for name, pattern in self._channels.items() if pattern.fullmatch(topic)]
        assert len(found) == 1, f"{topic} is of the channels {found}"
        for name, value in zip(
            ASYNCAPI["channels"][found[0]].get("parameters", {}),
            self._channels[found[0]].fullmatch(topic).groups(),
            strict=True,
        ):
            known = ASYNCAPI["channels"][found[0]]["parameters"][name].get("enum")
            assert known is None or value in known, topic
        return found[0]

    def check(self, message: Published) -> str:
        """The channel of the message; AssertionError where it is not as described."""
        channel = self.channel_of(message.topic)
        if channel in ("status", "candles", "ending") and not message.payload and message.retain:
            return channel  # what was retained is cleared
        complaints = []
        for operation in self._sendings[channel]:
            binding = operation["bindings"]["mqtt"]
            if (binding["qos"], binding["retain"]) != (message.qos, message.retain):
                complaints.append(f"sent with QoS {message.qos}, retain {message.retain}")
                continue
            for reference in operation["messages"]:
                name = reference["$ref"].rpartition("/")[2]
                value = json.loads(message.payload)
                errors = [f"{name}: {error.message}" for error in validator(name).iter_errors(value)]
                errors += [f"{name}: {field} is not described" for field in undescribed(name, value)]
                if not errors:
                    return channel
                complaints += errors
        raise AssertionError(f"{message}: {complaints}")


def undescribed(name: str, value: Any) -> set[str]:
    return value.keys() - load_schemas()[name]["properties"].keys()


def poison(listener: Listener) -> None:
    """Messages that nobody can use, so that there are dead letters."""
    for topic in (
        "ingress/raw/kraken/BTC-USD/1m",
        "ingress/candles/kraken/BTC-USD/1m",
        "ingress/request/kraken/history",
    ):
        listener.client.publish(topic, _POISON, qos=1)


def delist(demo: DocumentedDemo, symbol: str) -> None:
    """Have the simulator end trading in a symbol, whose last windows then stay open for a while."""
    body = json.dumps({"kind": "delist", "symbol": symbol}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{demo.control_port}/faults", body, {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=10).close()


def services_seen(messages: list[Published], state: str) -> set[str]:
    topics = [f"ingress/status/{service}/" for service in SERVICES]
    statuses = [
        json.loads(m.payload)
        for m in list(messages)
        # What an instance sends to itself lies below its status.
        if m.payload and m.topic.startswith(tuple(topics)) and m.topic.count("/") == 3
    ]
    return {status["service"] for status in statuses if status["state"] == state}


def closed_and_qos(messages: list[Published]) -> set[tuple[bool, int]]:
    candles = [m for m in messages if m.topic.startswith("ingress/candles/") and m.payload]
    return {(json.loads(candle.payload)["closed"], candle.qos) for candle in candles}


def test_everything_that_is_published_is_as_described(tmp_path, mosquitto_of):
    broker = mosquitto_of()
    listener = Listener(broker.port)
    demo = DocumentedDemo(tmp_path, broker.url, None)
    demo.start()
    try:
        demo.until_it_serves_candles()
        poison(listener)
        delist(demo, "SOL/USD")
        description = Description()
        wanted = set(ASYNCAPI["channels"])
        both = {(True, 1), (False, 0)}
        deadline = time.monotonic() + _SECONDS
        seen: set[str] = set()
        while (
            seen != wanted
            or services_seen(listener.messages, "online") != set(SERVICES)
            or closed_and_qos(listener.published()) != both
        ):
            assert time.monotonic() < deadline, f"seen only {seen}; the demo printed: {demo.output()}"
            time.sleep(0.5)
            seen = {description.channel_of(message.topic) for message in listener.published()}
    finally:
        code = demo.stop()
    assert code == 0, demo.output()
    deadline = time.monotonic() + 10
    while services_seen(listener.messages, "offline") != set(SERVICES):
        assert time.monotonic() < deadline, services_seen(listener.messages, "offline")
        time.sleep(0.1)
    listener.client.loop_stop()

    assert {description.check(message) for message in listener.published()} == wanted
    # A forming candle is QoS 0, a closed one QoS 1.
    assert closed_and_qos(listener.published()) == both
