"""`python -m influx_writer`."""

import sys

from influx_writer.composition import build
from influx_writer.settings import WriterSettings
from ingress_common.service import run_service
from ingress_common.service_names import WRITER


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    return run_service(WRITER, WriterSettings, build)


if __name__ == "__main__":
    sys.exit(main())
