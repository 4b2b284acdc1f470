"""`python -m kraken_simulator`."""

import sys

from kraken_simulator.cli import main

if __name__ == "__main__":
    sys.exit(main())
