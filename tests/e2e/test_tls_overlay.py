"""The demo stack with TLS everywhere: `deploy/tls.yml` over the compose files of the demo."""

import json
import secrets
import ssl
import urllib.error
import urllib.request

import pytest

from demo_stack import Stack, until, why_no_stack
from servers import missing

_HEALTHY_SECONDS = 120
_READABLE_SECONDS = 60

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def stack(tmp_path, certificates):
    if reason := why_no_stack():
        missing("Docker with Compose and the base images", reason)
    name = f"ingress-tls-{secrets.token_hex(4)}"
    stack = Stack(name, ("deploy/tls.yml",), {"CERTS_DIR": str(certificates.folder)})
    try:
        stack.build()
        stack.start(_HEALTHY_SECONDS)
        yield stack
    finally:
        stack.remove(tmp_path / f"{name}.log")


def test_stack_is_healthy_and_stores_candles_over_tls(stack, certificates):
    context = ssl.create_default_context(cafile=str(certificates.ca))
    admin = f"https://{stack.address('admin-api', 8000)}"

    def get(url: str) -> dict:
        try:
            with urllib.request.urlopen(url, context=context, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    until(lambda: get(f"{admin}/health")["status"] == "ok", _READABLE_SECONDS, "GET /health to say ok")
    symbols = get(f"{admin}/symbols")["symbols"]
    assert symbols
    for symbol in symbols:
        name = symbol["symbol"].replace("/", "-")
        assert get(f"{admin}/candles/{name}?timeframe=5m")["candles"]
    # Without TLS nobody is there.
    for service, port in (("admin-api", 8000), ("influxdb", 8086)):
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(f"http://{stack.address(service, port)}/health", timeout=10)
