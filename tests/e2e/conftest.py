"""The demo stack as its users start it: the compose files, under a project name and ports of its own."""

import secrets
from collections.abc import Iterator

import pytest

from demo_stack import Stack, why_no_stack
from servers import missing

_HEALTHY_SECONDS = 90


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The demo stack, built and healthy; everything that belongs to it is removed at the end."""
    if reason := why_no_stack():
        missing("Docker with Compose and the base images", reason)
    name = f"ingress-e2e-{secrets.token_hex(4)}"
    stack = Stack(name)
    try:
        stack.build()
        stack.start(_HEALTHY_SECONDS)
        yield stack
    finally:
        stack.remove(tmp_path_factory.getbasetemp() / f"{name}.log")
