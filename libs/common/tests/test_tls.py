"""TLS with a real Mosquitto and a real HTTP server, and the error texts of failed handshakes."""

import shutil
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from ingress_common.bus import BusError, Message
from ingress_common.bus.client import MqttClient
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.url import MqttUrl
from ingress_common.health import Health
from ingress_common.health_server import HealthServer
from ingress_common.tls import TlsFileError, TlsFiles, reason_of
from servers import TLS_LISTENER


@pytest.fixture(params=["mqtt5", "paho"])
def client(request):
    return request.param


@pytest.fixture
def tls_broker(mosquitto_of, certificates, tmp_path):
    """Makes a Mosquitto with TLS, and gives the URL; `extra`: lines of its listener."""

    def make(extra: str = "") -> MqttUrl:
        server = mosquitto_of(f"allow_anonymous true\n{TLS_LISTENER}{extra}", certificates.of_broker)
        return MqttUrl("127.0.0.1", server.port, tls=True, tls_files=TlsFiles(certificates.ca))

    return make


async def refusal(url: MqttUrl, client: MqttClient) -> str:
    with pytest.raises(BusError) as caught:
        async with MqttBus(url, client_id="tls-refused", client=client):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_messages_go_over_tls(tls_broker, client):
    async with MqttBus(tls_broker(), client_id="tls-1", client=client) as bus:
        await bus.subscribe("tls/#")
        await (await bus.publish("tls/a", b"x" * 100_000))
        async for event in bus.events():
            if isinstance(event, Message):
                assert len(event.payload) == 100_000
                return


async def test_broker_may_require_a_client_certificate(tls_broker, certificates, client):
    url = tls_broker("require_certificate true\n")
    text = await refusal(url, client)
    assert "a client certificate" in text
    ours = TlsFiles(certificates.ca, certificates.cert("client"), certificates.key("client"))
    async with MqttBus(replace(url, tls_files=ours), client_id="tls-2", client=client) as bus:
        assert bus.connected


async def test_a_client_certificate_that_the_broker_does_not_trust_is_named(tls_broker, certificates, client):
    strange = certificates.stranger.parent
    files = TlsFiles(certificates.ca, strange / "client.pem", strange / "client-key.pem")
    text = await refusal(replace(tls_broker("require_certificate true\n"), tls_files=files), client)
    assert "not trust our" in text


async def test_an_unknown_authority_is_named(tls_broker, certificates, client):
    url = tls_broker()
    for files in (TlsFiles(), TlsFiles(certificates.stranger)):
        text = await refusal(replace(url, tls_files=files), client)
        assert "certificate is not trusted" in text
        assert "MQTT_CA_FILE" in text


async def test_a_port_without_tls_is_named(mosquitto_of, certificates, client):
    port = mosquitto_of().port
    text = await refusal(MqttUrl("127.0.0.1", port, tls=True, tls_files=TlsFiles(certificates.ca)), client)
    assert "may not speak TLS on this port" in text


async def test_a_port_with_tls_is_named(tls_broker, client):
    text = await refusal(replace(tls_broker(), tls=False, tls_files=TlsFiles()), client)
    assert "expect TLS (mqtts://)" in text


def test_a_certificate_for_another_host_is_named(certificates):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(certificates.cert("broker"), certificates.key("broker"))
    server = server_context.wrap_bio(outgoing, incoming, server_side=True)
    client = (
        TlsFiles(certificates.ca).client_context().wrap_bio(incoming, outgoing, server_hostname="elsewhere.example")
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        client.do_handshake()
    assert "for another host" in reason_of(caught.value)


def test_files_that_cannot_be_used_are_named(certificates, tmp_path):
    with pytest.raises(TlsFileError, match="there is no file"):
        TlsFiles(Path("/none.pem")).client_context()
    with pytest.raises(TlsFileError, match=r"there is no file .*none-key"):
        TlsFiles(None, certificates.cert("client"), tmp_path / "none-key.pem").client_context()
    with pytest.raises(TlsFileError, match="do not match"):
        TlsFiles(None, certificates.cert("client"), certificates.key("broker")).client_context()
    rsa = tmp_path / "rsa-key.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(rsa), "2048"], check=True, capture_output=True)
    with pytest.raises(TlsFileError, match="do not match"):
        TlsFiles(None, certificates.cert("client"), rsa).client_context()
    with pytest.raises(TlsFileError, match="not in PEM form"):
        TlsFiles(None, rsa).client_context()


async def test_http_is_served_over_tls_alone(certificates):
    def health() -> Health:
        return Health(live=True, ready=True)

    ours = TlsFiles(None, certificates.cert("admin-api"), certificates.key("admin-api"))
    async with HealthServer("127.0.0.1", 0, health, CollectorRegistry(), ours) as server:
        context = ssl.create_default_context(cafile=str(certificates.ca))
        async with httpx.AsyncClient(verify=context) as client:
            response = await client.get(f"https://127.0.0.1:{server.port}/health/ready")
            assert response.status_code == 200
            with pytest.raises(httpx.HTTPError):
                await client.get(f"http://127.0.0.1:{server.port}/health/ready")


async def test_http_server_may_require_a_client_certificate(certificates):
    def health() -> Health:
        return Health(live=True, ready=True)

    files = TlsFiles(certificates.ca, certificates.cert("admin-api"), certificates.key("admin-api"))
    async with HealthServer("127.0.0.1", 0, health, CollectorRegistry(), files) as server:
        url = f"https://127.0.0.1:{server.port}/health/ready"
        context = ssl.create_default_context(cafile=str(certificates.ca))
        async with httpx.AsyncClient(verify=context) as client:
            with pytest.raises(httpx.HTTPError):
                await client.get(url)
        context.load_cert_chain(certificates.cert("client"), certificates.key("client"))
        async with httpx.AsyncClient(verify=context) as client:
            assert (await client.get(url)).status_code == 200


async def test_a_renewed_certificate_authority_is_used_without_a_restart(tls_broker, certificates, tmp_path, client):
    url = tls_broker()
    ca = tmp_path / "ca.pem"
    shutil.copy(certificates.stranger, ca)
    assert "is not trusted" in await refusal(replace(url, tls_files=TlsFiles(ca)), client)
    shutil.copy(certificates.ca, ca)
    async with MqttBus(replace(url, tls_files=TlsFiles(ca)), client_id="tls-3", client=client) as bus:
        assert bus.connected
