"""`python -m aggregator`."""

import sys

from aggregator.composition import build
from aggregator.service import Aggregator
from aggregator.settings import AggregatorSettings
from ingress_common.service import run_service


def main() -> int:
    """Run until a signal; the exit code is 0, 1 (failure) or 2 (setting)."""
    return run_service(Aggregator.name, AggregatorSettings, build)


if __name__ == "__main__":
    sys.exit(main())
