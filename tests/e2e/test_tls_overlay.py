"""The demo stack with TLS everywhere: `deploy/tls.yml` over the compose files of the demo."""

import json
import secrets
import shutil
import ssl
import urllib.error
import urllib.request

import pytest

from demo_stack import Stack, until, why_no_stack
from servers import missing

_HEALTHY_SECONDS = 120
_READABLE_SECONDS = 60

pytestmark = pytest.mark.timeout(900)


_CLIENT_CERTIFICATES = {
    "MQTT_TLS_CLIENTS": "true",
    "MQTT_TLS_CA_FILE": "/certs/clients-ca.pem",
    "MQTT_CERT_FILE": "/certs/client.pem",
    "MQTT_KEY_FILE": "/certs/client-key.pem",
    "HTTP_CLIENT_CA_FILE": "/certs/clients-ca.pem",
}
"""Broker and admin-api accept only clients with a certificate, from an authority that is not the servers'."""


@pytest.fixture
def folder(tmp_path, certificates):
    """The servers' certificates, and a client's from another authority."""
    folder = tmp_path / "certs"
    shutil.copytree(certificates.folder, folder)
    shutil.copy(certificates.stranger, folder / "clients-ca.pem")
    for name in ("client.pem", "client-key.pem"):
        shutil.copy(certificates.stranger.parent / name, folder)
    return folder


@pytest.fixture(params=[{}, _CLIENT_CERTIFICATES], ids=["server certificates", "client certificates too"])
def stack(request, tmp_path, folder):
    if reason := why_no_stack():
        missing("Docker with Compose and the base images", reason)
    name = f"ingress-tls-{secrets.token_hex(4)}"
    stack = Stack(name, ("deploy/tls.yml",), {"CERTS_DIR": str(folder), **request.param})
    try:
        stack.build()
        stack.start(_HEALTHY_SECONDS)
        yield stack
    finally:
        stack.remove(tmp_path / f"{name}.log")


def test_stack_is_healthy_and_stores_candles_over_tls(stack, folder):
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "client.pem", folder / "client-key.pem")
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
