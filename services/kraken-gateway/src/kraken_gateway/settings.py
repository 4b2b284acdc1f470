"""The gateway's settings (`design.md`, section 4)."""

from ingress_common.settings import HttpUrl, ServiceSettings, SymbolPatterns, WsUrl


class GatewaySettings(ServiceSettings):
    """`symbols`: what to follow. `kraken_ws_url`, `kraken_rest_url`: where Kraken is."""

    symbols: SymbolPatterns
    """The pairs to follow. Patterns take what Kraken offers now and later."""

    kraken_ws_url: WsUrl = "wss://ws.kraken.com/v2"
    """Kraken's WebSocket v2."""

    kraken_rest_url: HttpUrl = "https://api.kraken.com"
    """Kraken's REST."""
