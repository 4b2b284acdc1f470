"""Client ids: unguessable with a password, and none if no name is given."""

from ingress_common.bus.mqtt import secret_client_id
from ingress_common.bus.url import MqttUrl

URL = MqttUrl("broker", 1883, username="writer", password="secret")


def test_client_id_is_the_same_for_a_name_and_a_password_and_another_for_others():
    mine = secret_client_id("a", URL)
    assert mine.startswith("a-")
    assert mine == secret_client_id("a", URL)
    others = [
        secret_client_id("b", URL),
        secret_client_id("a", MqttUrl("broker", 1883, username="viewer", password="secret")),
        secret_client_id("a", MqttUrl("broker", 1883, username="writer", password="guessed")),
    ]
    assert mine not in others


def test_without_a_password_the_client_id_is_the_name():
    assert secret_client_id("a", MqttUrl("broker", 1883)) == "a"


def test_clients_without_a_name_do_not_share_one():
    assert secret_client_id("", URL) == ""
