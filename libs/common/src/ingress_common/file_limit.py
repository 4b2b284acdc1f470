"""Logging of a reached limit of open files."""

import asyncio
import errno
from typing import Any

from ingress_common.logs import get_logger

REPEAT_SECONDS = 60.0
"""Seconds between two log lines. asyncio alone logs a traceback for each connection that waits."""

_LIMITS = (errno.EMFILE, errno.ENFILE)

log = get_logger(__name__)


class FileLimitReporter:
    """An exception handler for event loops: `loop.set_exception_handler(FileLimitReporter())`.

    Logs a reached file limit once a minute and leaves every other error to asyncio's default handler.
    """

    def __init__(self) -> None:
        self._silent_until = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log the error in `context`."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _LIMITS):
            loop.default_exception_handler(context)
        elif loop.time() >= self._silent_until:
            self._silent_until = loop.time() + REPEAT_SECONDS
            log.error("files.limit-reached", reason=error.strerror, advice="allow more open files (ulimit -n, ulimits)")
