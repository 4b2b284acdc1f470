"""The choice of the MQTT client library."""

from typing import Literal

MqttClient = Literal["mqtt5", "paho"]
"""`mqtt5`: the mqtt5 codec on asyncio's transport. `paho`: paho-mqtt."""

DEFAULT_CLIENT: MqttClient = "mqtt5"
"""The faster one (`docs/decisions/0025-a-codec-under-the-bus.md`)."""
