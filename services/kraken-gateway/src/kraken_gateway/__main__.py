"""`python -m kraken_gateway`: the gateway as a process."""

import sys

from ingress_common.service import run_service
from ingress_common.service_names import GATEWAY
from kraken_gateway.composition import build
from kraken_gateway.settings import GatewaySettings

if __name__ == "__main__":
    sys.exit(run_service(GATEWAY, GatewaySettings, build))
