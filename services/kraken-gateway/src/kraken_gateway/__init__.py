"""Speaks Kraken: raw ticks, history and watermarks onto the bus."""

from kraken_gateway.live.feed import OpenBus
from kraken_gateway.service import GatewayService
from kraken_gateway.settings import GatewaySettings

__all__ = ["GatewayService", "GatewaySettings", "OpenBus"]
