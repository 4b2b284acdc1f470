"""`python -m admin_api`."""

import resource
import sys

from admin_api.app import NAME, build
from admin_api.settings import AdminSettings
from ingress_common.service import run_http_service

_FILES = 65_536
"""Open files, where the system lets us."""


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit code is 0, 1 (failure) or 2 (setting)."""
    _allow_files()
    return run_http_service(NAME, AdminSettings, build)


def _allow_files() -> None:
    """Let each stream be an open file: many systems begin with 1,024 where they allow more."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


if __name__ == "__main__":
    sys.exit(main())
