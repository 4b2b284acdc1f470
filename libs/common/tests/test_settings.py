import socket

import pytest
from pydantic import SecretStr

from ingress_common.bus.url import MqttUrl
from ingress_common.settings import (
    HttpUrl,
    ServiceSettings,
    SettingsError,
    StoreUrl,
    SymbolPatterns,
    WsUrl,
    load_settings,
)


class Everything(ServiceSettings):
    symbols: SymbolPatterns = ("BTC/USD",)
    store_url: StoreUrl = "sqlite:///candles.db"
    kraken_ws_url: WsUrl = "wss://localhost/v2"
    kraken_rest_url: HttpUrl = "https://localhost"
    admin_token: SecretStr | None = None


class Demanding(ServiceSettings):
    symbols: SymbolPatterns


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in Everything.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def complaint(settings_type=Everything) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(settings_type)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.__cause__ is None
    return text


def test_defaults_need_no_environment():
    settings = load_settings(Everything)
    assert settings.mqtt_url == MqttUrl("localhost", 1883)
    assert settings.topics.prefix == "ingress"
    assert settings.instance_id
    assert not set(settings.instance_id) & set("/+# ")


def test_host_name_that_is_no_topic_level_is_made_one(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "a/b+c#d e")
    assert load_settings(Everything).instance_id == "a-b-c-d-e"


def test_environment_wins_over_env_file_and_override_over_both(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("HTTP_PORT=1\nLOG_LEVEL=debug\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("HTTP_PORT", "2")
    settings = load_settings(Everything, symbols="ETH/USD")
    assert (settings.http_port, settings.log_level, settings.symbols) == (2, "debug", ("ETH/USD",))


def test_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("HTTP_PORT", "")
    monkeypatch.setenv("MQTT_URL", "")
    settings = load_settings(Everything)
    assert (settings.http_port, settings.mqtt_url.host) == (9000, "localhost")


def test_env_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    assert ".env" in complaint()


def test_symbols_are_split_and_each_taken_once(monkeypatch):
    monkeypatch.setenv("SYMBOLS", "BTC/USD, */USD,ETH/*,*,BTC/USD")
    assert load_settings(Everything).symbols == ("BTC/USD", "*/USD", "ETH/*", "*")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://host", MqttUrl("host", 1883)),
        ("mqtts://host", MqttUrl("host", 8883, tls=True)),
        ("mqtt://user:p%40ss@host:1", MqttUrl("host", 1, username="user", password="p@ss")),
        ("mqtt://[::1]:1884", MqttUrl("::1", 1884)),
    ],
)
def test_broker_url_is_parsed(monkeypatch, url, expected):
    monkeypatch.setenv("MQTT_URL", url)
    assert load_settings(Everything).mqtt_url == expected


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MQTT_URL", "http://host", ["http://host", "mqtt://", "scheme"]),
        ("MQTT_URL", "mqtt://", ["host is missing"]),
        ("MQTT_URL", "mqtt://host:port", ["port", "mqtt://host:port"]),
        ("MQTT_URL", "mqtt://host:70000", ["port"]),
        ("MQTT_URL", "host:1883", ["mqtt://"]),
        ("MQTT_URL", "mqtt://host/path", ["nothing may follow"]),
        ("HTTP_PORT", "abc", ["abc", "65535"]),
        ("HTTP_PORT", "65536", ["65536"]),
        ("LOG_LEVEL", "loud", ["loud", "warning"]),
        ("LOG_FORMAT", "xml", ["xml", "console or json"]),
        ("INSTANCE_ID", "a/b", ["a/b"]),
        ("INGRESS_TOPIC_PREFIX", "a//b", ["a//b"]),
        ("INGRESS_TOPIC_PREFIX", "a/#", ["a/#"]),
        ("SYMBOLS", "BTC/USD,XBTUSD", ["XBTUSD", "BTC/USD,ETH/USD"]),
        ("SYMBOLS", ",", [","]),
        ("STORE_URL", "postgres://host", ["postgres", "influxdb://"]),
        ("STORE_URL", "influxdb://", ["host is missing"]),
        ("STORE_URL", "sqlite://file", ["three slashes"]),
        ("KRAKEN_WS_URL", "https://host", ["https", "wss"]),
        ("KRAKEN_REST_URL", "wss://host", ["wss", "https"]),
    ],
)
def test_wrong_value_is_one_line_with_the_variable_and_what_it_may_hold(monkeypatch, variable, value, words):
    monkeypatch.setenv(variable, value)
    text = complaint()
    assert text.startswith(f"{variable}: expected ")
    for word in words:
        assert word in text


def test_missing_variable_is_named():
    assert complaint(Demanding).startswith("SYMBOLS is not set: expected ")


def test_every_wrong_variable_is_named_at_once(monkeypatch):
    monkeypatch.setenv("HTTP_PORT", "x")
    monkeypatch.setenv("LOG_LEVEL", "x")
    text = complaint()
    assert "HTTP_PORT" in text
    assert "LOG_LEVEL" in text


@pytest.mark.parametrize(
    "url", ["http://u:secret@host", "mqtt://u:secret@host:x", "u:secret@host", "mqtt://u:sec[ret@host"]
)
def test_password_is_not_repeated(monkeypatch, url):
    monkeypatch.setenv("MQTT_URL", url)
    text = complaint()
    assert "secret" not in text
    assert "sec[ret" not in text


def test_token_is_not_repeated(monkeypatch):
    class Long(Everything):
        admin_token: int

    monkeypatch.setenv("ADMIN_TOKEN", "secret-token")
    text = complaint(Long)
    assert "ADMIN_TOKEN" in text
    assert "secret-token" not in text
