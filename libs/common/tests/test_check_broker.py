"""`check_broker` on real brokers: a suitable one and some that lack something."""

import pytest

from breaking import in_its_place
from ingress_common.bus import BusError
from ingress_common.bus.check import check_broker
from ingress_common.bus.url import MqttUrl
from proxy import HoldingProxy
from servers import free_port


async def lacking(server, **options) -> dict[str, str]:
    checks = await check_broker(MqttUrl.parse(server.url), "ingress", **options)
    return {check.what: check.lacking for check in checks if check.lacking}


@pytest.mark.parametrize("client", ["mqtt5", "paho"])
async def test_suitable_broker_passes_every_check(mosquitto_of, client):
    assert await lacking(mosquitto_of(), client=client) == {}


async def test_short_session_queue_is_reported_with_its_setting(mosquitto_of):
    found = await lacking(mosquitto_of("allow_anonymous true\nmax_queued_messages 1000\n"))
    (text,) = [text for what, text in found.items() if "disconnected client" in what]
    assert "max_queued_messages" in text


async def test_session_queue_short_in_bytes_is_reported_with_its_setting(mosquitto_of):
    limits = "allow_anonymous true\nmax_queued_messages 1000000\nmax_queued_bytes 200000\n"
    found = await lacking(mosquitto_of(limits))
    (text,) = [text for what, text in found.items() if "disconnected client" in what]
    assert "max_queued_bytes" in text


async def test_limit_of_connections_is_reported_with_its_setting(mosquitto_of):
    (text,) = (await lacking(mosquitto_of("allow_anonymous true\nmax_connections 5\n"))).values()
    assert "connected; allow more connections (Mosquitto, EMQX: max_connections" in text


async def test_small_maximum_packet_is_reported(mosquitto_of):
    found = await lacking(mosquitto_of("allow_anonymous true\nmax_packet_size 131072\n"))
    (text,) = found.values()
    assert "131072" in text


async def test_a_broker_without_retained_messages_is_refused_at_once(mosquitto_of):
    server = mosquitto_of("allow_anonymous true\nretain_available false\n")
    with pytest.raises(BusError, match="Retain Available"):
        await lacking(server)


async def test_unresponsive_broker_fails_one_check_and_is_reported(mosquitto_of, monkeypatch):
    monkeypatch.setattr("ingress_common.bus.check._STALL_SECONDS", 5.0)
    async with HoldingProxy("127.0.0.1", mosquitto_of().port, b"/burst") as proxy:
        proxy.hold()
        checks = await check_broker(MqttUrl("127.0.0.1", proxy.port), "ingress")
        proxy.release()
    (check,) = (check for check in checks if check.lacking)
    assert "a session keeps" in check.what
    assert "stopped responding" in check.lacking


@pytest.mark.parametrize("client", ["mqtt5", "paho"])
async def test_server_that_accepts_and_never_responds_is_reported_as_maybe_not_mqtt_5(client):
    port = free_port()
    async with in_its_place(port, None):
        with pytest.raises(BusError, match="although it accepted the connection; it may not speak MQTT 5"):
            await check_broker(MqttUrl("127.0.0.1", port), "ingress", client=client)
