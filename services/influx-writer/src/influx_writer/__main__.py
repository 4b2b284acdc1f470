"""`python -m influx_writer`."""

import sys

from influx_writer.composition import build
from influx_writer.settings import WriterSettings
from influx_writer.writer import NAME
from ingress_common.service import run_service


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    return run_service(NAME, WriterSettings, build)


if __name__ == "__main__":
    sys.exit(main())
