"""The bus: publish, subscribe and acknowledge over MQTT 5."""

from ingress_common.bus.port import Bus, BusClosedError, BusError, Connected, Event, LastWill, Message

__all__ = ["Bus", "BusClosedError", "BusError", "Connected", "Event", "LastWill", "Message"]
