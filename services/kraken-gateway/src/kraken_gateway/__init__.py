"""Speaks Kraken: publishes raw updates, history and watermarks on the bus."""

from kraken_gateway.live.feed import OpenBus
from kraken_gateway.service import GatewayService
from kraken_gateway.settings import GatewaySettings

__all__ = ["GatewayService", "GatewaySettings", "OpenBus"]
