"""`python -m admin_api`."""

import resource
import sys

from admin_api.app import build
from admin_api.settings import AdminSettings
from ingress_common.service import run_http_service
from ingress_common.service_names import ADMIN_API

_FILES = 65_536
"""Maximum number of open files, if the system permits it."""


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit code is 0, 1 (failure) or 2 (setting)."""
    _allow_files()
    return run_http_service(ADMIN_API, AdminSettings, build)


def _allow_files() -> None:
    """Raise the limit of open files, because each stream is one: many systems start at 1,024 and permit more."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


if __name__ == "__main__":
    sys.exit(main())
