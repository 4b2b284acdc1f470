"""Settings of the command line: those of all services, with defaults that need nothing installed."""

from admin_api.settings import AdminSettings
from aggregator.settings import AggregatorSettings
from ingress_common.settings import LogLevel, StoreUrl, SymbolPatterns
from kraken_gateway.settings import GatewaySettings


class RunSettings(AdminSettings, GatewaySettings, AggregatorSettings):
    """Everything in one process. Where MQTT_URL is not set, a broker is embedded."""

    symbols: SymbolPatterns = ("BTC/USD", "ETH/USD", "SOL/USD", "BTC/USDC")
    store_url: StoreUrl = "sqlite:///data/crypto-ingress.db"
    log_level: LogLevel = "warning"

    @property
    def external_broker(self) -> bool:
        """Whether MQTT_URL was given."""
        return "mqtt_url" in self.model_fields_set


class DemoSettings(RunSettings):
    """The same on the simulator: all of its markets, in a store of its own."""

    symbols: SymbolPatterns = ("*",)
    store_url: StoreUrl = "sqlite:///data/demo.db"
