"""Settings of the command line: those of all services, with defaults that need nothing installed."""

from pathlib import Path

from admin_api.settings import AdminSettings
from aggregator.settings import AggregatorSettings
from influx_writer.settings import WriterSettings
from ingress_common.settings import LogLevel, SymbolPatterns
from ingress_store.settings import StoreUrlSetting
from ingress_store.url import SqliteUrl
from kraken_gateway.settings import GatewaySettings


class RunSettings(AdminSettings, GatewaySettings, AggregatorSettings, WriterSettings):
    """Settings of all services in one process. Without MQTT_URL the runner embeds a broker."""

    symbols: SymbolPatterns = ("BTC/USD", "ETH/USD", "SOL/USD", "BTC/USDC")
    store_url: StoreUrlSetting = SqliteUrl(Path("data/crypto-ingress.db"))
    log_level: LogLevel = "warning"

    @property
    def external_broker(self) -> bool:
        """Whether MQTT_URL is set."""
        return "mqtt_url" in self.model_fields_set


class DemoSettings(RunSettings):
    """Settings of the demo: all of the simulator's markets, in a separate store."""

    symbols: SymbolPatterns = ("*",)
    store_url: StoreUrlSetting = SqliteUrl(Path("data/demo.db"))
