"""The gateway's settings (`design.md`, section 4)."""

from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from ingress_common.settings import CaFile, HttpUrl, ServiceSettings, SymbolPatterns, WsUrl
from ingress_common.tls import TlsFiles


def _tls_with_a_ca_file(url: str, info: ValidationInfo) -> str:
    if info.data.get("kraken_ca_file") is not None and not url.startswith(("wss:", "https:")):
        raise ValueError("KRAKEN_CA_FILE is for wss:// and https://")
    return url


class GatewaySettings(ServiceSettings):
    """`symbols`: what to follow. `kraken_ws_url`, `kraken_rest_url`: where Kraken is."""

    symbols: SymbolPatterns
    """The pairs to follow. Patterns take what Kraken offers now and later."""

    # These fields come before the URLs that are checked with them: fields are validated in this order.
    kraken_ca_file: CaFile = None
    """Certificate authorities that Kraken's certificate may come from, instead of the system's: those of a proxy that
    decrypts TLS.
    """

    kraken_ws_url: Annotated[WsUrl, AfterValidator(_tls_with_a_ca_file)] = "wss://ws.kraken.com/v2"
    """Kraken's WebSocket v2."""

    kraken_rest_url: Annotated[HttpUrl, AfterValidator(_tls_with_a_ca_file)] = "https://api.kraken.com"
    """Kraken's REST."""

    @property
    def kraken_tls(self) -> TlsFiles:
        """The authorities of Kraken's certificate; false for the system's."""
        return TlsFiles(self.kraken_ca_file)
