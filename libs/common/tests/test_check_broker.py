"""`check_broker` on real brokers: a suitable one and some that lack something."""

import pytest

from breaking import in_its_place
from ingress_common.bus import BusError
from ingress_common.bus.check import check_broker
from ingress_common.bus.url import MqttUrl
from proxy import HoldingProxy
from servers import FOLDER, free_port


async def lacking(server, **options) -> dict[str, str]:
    checks = await check_broker(MqttUrl.parse(server.url), "ingress", **options)
    return {check.what: check.lacking for check in checks if check.lacking}


@pytest.mark.parametrize("client", ["mqtt5", "paho"])
async def test_suitable_broker_passes_every_check(mosquitto_of, client):
    assert await lacking(mosquitto_of(), client=client) == {}


@pytest.mark.parametrize(
    ("right", "lacks"),
    [("write", "it may publish but not read"), ("read", "it may not publish")],
    ids=["write", "read"],
)
async def test_a_user_without_a_right_gets_one_line_that_names_it(mosquitto_of, tmp_path, right, lacks):
    acl = tmp_path / "acl"
    acl.write_text(f"topic {right} #\n")
    acl.chmod(0o644)
    found = await lacking(mosquitto_of(f"allow_anonymous true\nacl_file {FOLDER}/acl\n", [acl]))
    (text,) = found.values()
    assert text.startswith(lacks)
    assert "the other tests are skipped" in text


async def test_a_very_short_session_queue_is_not_blamed_on_the_messages_in_flight(mosquitto_of):
    found = await lacking(mosquitto_of("allow_anonymous true\nmax_queued_messages 10\n"))
    assert "max_inflight_messages" not in " ".join(found.values())
    (text,) = [text for what, text in found.items() if "unacknowledged" in what]
    assert text == "not tested, because a session keeps only 10"


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
    assert "max_packet_size" in text


@pytest.mark.parametrize("client", ["mqtt5", "paho"])
async def test_maximum_packet_that_is_too_small_for_a_connection_is_reported(mosquitto_of, client):
    with pytest.raises(BusError, match=r"accept only smaller packets \(Mosquitto: max_packet_size\)"):
        await lacking(mosquitto_of("allow_anonymous true\nmax_packet_size 20\n"), client=client)


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
