"""What the log contains, and what it must not."""

import asyncio
import errno
import io
import logging
import sys

import pytest

from ingress_common.file_limit import FileLimitReporter
from ingress_common.logs import configure_logging, get_logger


@pytest.fixture(params=["console", "json"])
def written(request, monkeypatch):
    """What the log holds, in each of its formats."""
    lines = io.StringIO()
    monkeypatch.setattr(sys, "stderr", lines)
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    configure_logging("info", request.param)
    yield lines
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


def fail_with(token: str) -> None:
    raise RuntimeError("the request failed")


@pytest.mark.parametrize("name", ["ingress", "asyncio"])
def test_a_traceback_shows_no_local_variables(written, name):
    secret = f"bearer-{errno.EMFILE}-s3cret"
    try:
        fail_with(secret)
    except RuntimeError as error:
        get_logger(name).error("http.failed", exc_info=error)
        logging.getLogger(name).error("library failed", exc_info=error)
    assert written.getvalue().count("RuntimeError: the request failed") == 2
    assert "fail_with" in written.getvalue()
    assert secret not in written.getvalue()


async def test_a_file_limit_that_is_reached_is_one_line(written):
    loop = asyncio.get_running_loop()
    report = FileLimitReporter()
    for _ in range(2_000):
        error = OSError(errno.EMFILE, "Too many open files")
        report(loop, {"message": "socket.accept() out of system resource", "exception": error})
    assert written.getvalue().count("\n") == 1
    assert "Too many open files" in written.getvalue()
    report(loop, {"message": "Task exception was never retrieved", "exception": ValueError("another thing")})
    assert "another thing" in written.getvalue()
