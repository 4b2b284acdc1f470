"""Secrets stay out of the log."""

import io
import logging
import sys

import pytest

from ingress_common.logs import configure_logging


@pytest.mark.parametrize("log_format", ["console", "json"])
async def test_an_exception_in_an_authorised_route_is_logged_without_the_token(world, monkeypatch, log_format):
    lines = io.StringIO()
    token = "a-bearer-token-that-nobody-may-read"
    async with world.running(admin_token=token) as http:

        async def fail() -> None:
            raise RuntimeError("a defect")

        monkeypatch.setattr(world.service._store, "bootstrap", fail)
        monkeypatch.setattr(sys, "stderr", lines)
        handlers = logging.getLogger().handlers[:]
        configure_logging("debug", log_format)
        try:
            answer = await http.post("/bootstrap", headers={"Authorization": f"Bearer {token}"})
        finally:
            logging.getLogger().handlers[:] = handlers
    assert answer.status_code == 500
    assert "a defect" in lines.getvalue()
    assert token not in lines.getvalue()
    assert lines.getvalue().count("\n") < 200
