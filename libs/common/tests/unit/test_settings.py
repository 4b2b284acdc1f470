import re
import socket
from typing import Annotated

import pytest
from pydantic import Field, SecretStr

from ingress_common.bus.url import MqttUrl
from ingress_common.settings import (
    HttpUrl,
    ServiceSettings,
    SettingsError,
    SymbolPatterns,
    WsUrl,
    load_settings,
    zero_or_at_least,
)
from unset import unset


class Everything(ServiceSettings):
    symbols: SymbolPatterns = ("BTC/USD",)
    kraken_ws_url: WsUrl = "wss://localhost/v2"
    kraken_rest_url: HttpUrl = "https://localhost"
    admin_token: SecretStr | None = None
    influx_token: SecretStr | None = None
    seconds: Annotated[float, Field(description="a number of seconds, or 0"), zero_or_at_least(1.0)] = 1.0


class Demanding(ServiceSettings):
    symbols: SymbolPatterns


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    unset(monkeypatch, Everything, tmp_path)


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


def test_health_has_a_port_of_its_own(monkeypatch):
    monkeypatch.setenv("HEALTH_PORT", "9001")
    assert load_settings(Everything).health_port == 9001
    monkeypatch.setenv("HTTP_PORT", "9001")
    assert "other than HTTP_PORT, got '9001'" in complaint()


def test_host_name_that_is_no_topic_level_is_made_one(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "a/b+c#d e")
    assert load_settings(Everything).instance_id == "a-b-c-d-e"


def test_environment_wins_over_env_file_and_override_over_both(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("HTTP_PORT=1\nLOG_LEVEL=debug\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("HTTP_PORT", "2")
    settings = load_settings(Everything, symbols="ETH/USD")
    assert (settings.http_port, settings.log_level, settings.symbols) == (2, "debug", ("ETH/USD",))


def test_byte_order_mark_hides_no_setting(tmp_path):
    (tmp_path / ".env").write_bytes("\ufeffHTTP_PORT=1\n".encode())
    assert load_settings(Everything).http_port == 1


def test_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("HTTP_PORT", "")
    monkeypatch.setenv("MQTT_URL", "")
    settings = load_settings(Everything)
    assert (settings.http_port, settings.mqtt_url.host) == (9000, "localhost")


def test_env_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    assert ".env" in complaint()


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "my-host_1.example", "::", "fe80::1%eth0"])
def test_address_to_listen_on_is_an_ip_address_or_a_name(monkeypatch, host):
    monkeypatch.setenv("HTTP_HOST", host)
    assert load_settings(Everything).http_host == host


def test_line_of_the_env_file_that_cannot_be_read_is_named_without_its_content(tmp_path):
    (tmp_path / ".env").write_text('LOG_LEVEL=info\n\nMQTT_URL="mqtt://user:secret@host\n')
    assert complaint() == (
        ".env: expected NAME=value in line 3, with a closing quote for each opening one, got something else (hidden)"
    )


def test_symbols_are_split_and_deduplicated(monkeypatch):
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
    ("variable", "value", "parts"),
    [
        ("MQTT_URL", "http://host", ["http://host", "mqtt://", "scheme"]),
        ("MQTT_URL", "mqtt://", ["it has no host"]),
        ("MQTT_URL", "mqtt://host:port", ["port", "mqtt://host:***"]),
        ("MQTT_URL", "mqtt://host:70000", ["port"]),
        ("MQTT_URL", "host:1883", ["mqtt://"]),
        ("MQTT_URL", "mqtt://host/path", ["nothing may follow"]),
        ("HTTP_PORT", "abc", ["abc", "65535"]),
        ("HTTP_PORT", "65536", ["65536"]),
        ("HTTP_HOST", "http://host", ["127.0.0.1", "'http://host'", "neither an IP address nor a host name"]),
        ("HTTP_HOST", "10.0.0.1:9000/", ["something else (hidden)"]),
        ("LOG_LEVEL", "loud", ["loud", "warning"]),
        ("LOG_FORMAT", "xml", ["xml", "console or json"]),
        ("MQTT_CLIENT", "gmqtt", ["gmqtt", "mqtt5 or paho"]),
        ("INSTANCE_ID", "a/b", ["a/b"]),
        ("INSTANCE_ID", "a\x01", ["a\\x01"]),
        ("INSTANCE_ID", "a$", ["a$"]),
        ("INGRESS_TOPIC_PREFIX", "a//b", ["a//b"]),
        ("INGRESS_TOPIC_PREFIX", "a\x7f", ["a\\x7f"]),
        ("INGRESS_TOPIC_PREFIX", "x" * 201, ["200 characters"]),
        ("INGRESS_TOPIC_PREFIX", "a/#", ["a/#"]),
        ("SYMBOLS", "BTC/USD,XBTUSD", ["XBTUSD", "BTC/USD,ETH/USD"]),
        ("SYMBOLS", "aaplx-usd", ["'AAPLX/USD', or 'AAPLx/USD' for a tokenised stock"]),
        ("SYMBOLS", ",", [","]),
        ("SYMBOLS", '["BTC/USD"]', ["BTC/USD,ETH/USD", "got '[\"BTC/USD\"]'", "neither a symbol nor a pattern"]),
        ("SYMBOLS", "'BTC/USD'", ["BTC/USD,ETH/USD", "got \"'BTC/USD'\""]),
        ("SYMBOLS", "BTC/\u200bUSD", ["BTC/USD,ETH/USD", "got 'BTC/\\u200bUSD'"]),
        ("SECONDS", "inf", ["'inf'"]),
        ("SECONDS", "nan", ["'nan'"]),
        ("SECONDS", "1e-9", ["a number of seconds, or 0", "'1e-9'", "it is less than 1 and not 0"]),
        ("KRAKEN_WS_URL", "https://host", ["https", "wss"]),
        ("KRAKEN_REST_URL", "wss://host", ["wss", "https"]),
        ("KRAKEN_WS_URL", "wss://:secret@host", ["it contains a user", "wss://***"]),
        ("KRAKEN_WS_URL", "wss://@host", ["it contains a user"]),
        ("KRAKEN_WS_URL", "wss://wss://host", ["it is not scheme://host:port/path"]),
        ("KRAKEN_WS_URL", "wss://[::1]host", ["wss://"]),
        ("KRAKEN_REST_URL", "https://host?", ["it contains a query"]),
        ("KRAKEN_REST_URL", "https://host#", ["it contains a fragment"]),
    ],
)
def test_wrong_value_is_one_line_with_the_variable_and_what_it_may_hold(monkeypatch, variable, value, parts):
    monkeypatch.setenv(variable, value)
    text = complaint()
    assert text.startswith(f"{variable}: expected ")
    for part in parts:
        assert part in text


def test_missing_variable_is_named():
    assert complaint(Demanding).startswith("SYMBOLS is not set: expected ")


def test_every_wrong_variable_is_named_at_once(monkeypatch):
    monkeypatch.setenv("HTTP_PORT", "x")
    monkeypatch.setenv("LOG_LEVEL", "x")
    text = complaint()
    assert "HTTP_PORT" in text
    assert "LOG_LEVEL" in text


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("KRAKEN_WS_URL", "wss://user:secret@host/v2"),
        ("KRAKEN_WS_URL", "wss://:secret@host/v2"),
        ("KRAKEN_REST_URL", "https://host/?key=secret"),
    ],
)
def test_address_that_may_hold_a_secret_is_refused_because_it_is_shown(monkeypatch, variable, url):
    monkeypatch.setenv(variable, url)
    text = complaint()
    assert variable in text
    assert "which is shown to everyone" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    "url",
    [
        "http://u:secret@host",
        "mqtt://u:secret@host:x",
        "u:secret@host",
        "mqtt://u:sec[ret@host",
        "mqtt://u:secret",
        "mqtt://u@host:secret",
        "mqtt://[::1]:secret",
        "mqtt://u:pa/secret",
        "mqtt://u:12/secret",
        "mqtt:///u:secret",
        "mqtt://u[:secret",
        "mqtt://mqtt://u:secret",
        "secret://host",
        "secret:abc",
        "secret",
    ],
)
def test_password_is_not_repeated(monkeypatch, url):
    monkeypatch.setenv("MQTT_URL", url)
    text = complaint()
    assert "secret" not in text
    assert "sec[ret" not in text


@pytest.mark.parametrize("raw", "#/?[] ")
@pytest.mark.parametrize(
    ("variable", "scheme"),
    [("MQTT_URL", "mqtt"), ("KRAKEN_WS_URL", "wss"), ("KRAKEN_REST_URL", "https")],
)
def test_a_raw_character_in_a_password_is_explained_and_no_part_of_it_is_shown(monkeypatch, variable, scheme, raw):
    monkeypatch.setenv(variable, f"{scheme}://user:abc{raw}xyz@host:1")
    text = complaint()
    assert "%23" in text
    assert "abc" not in text
    assert "xyz" not in text


@pytest.mark.parametrize("credentials", ["joe:sec%1Fret", "jo%1Fe:sec-ret", "joe:sec%0Aret", "joe:sec%FFret"])
def test_a_user_or_password_with_control_characters_or_not_utf8_is_refused(monkeypatch, credentials):
    monkeypatch.setenv("MQTT_URL", f"mqtt://{credentials}@host")
    text = complaint()
    assert text.startswith("MQTT_URL: ")
    assert re.search("the user or password (contains a control character|is not UTF-8)", text)
    assert "sec" not in text
    assert "ret" not in text


def test_a_password_of_its_own_has_no_control_character_either(monkeypatch, tmp_path):
    (tmp_path / "password").write_bytes(b"sec\0ret\n")
    monkeypatch.setenv("MQTT_URL", "mqtt://joe@host")
    monkeypatch.setenv("MQTT_PASSWORD_FILE", "password")
    text = complaint()
    assert "MQTT_PASSWORD contains a control character" in text
    assert "sec" not in text


def test_a_password_that_mqtt_cannot_hold_is_refused_with_its_length(monkeypatch, tmp_path):
    (tmp_path / "password").write_text("sec" * 5_000)
    monkeypatch.setenv("MQTT_URL", "mqtt://joe@host")
    monkeypatch.setenv("MQTT_PASSWORD_FILE", "password")
    text = complaint()
    assert "MQTT_PASSWORD has 15000 characters, more than 10000" in text
    assert "sec" not in text


def test_a_password_of_its_own_takes_every_character(monkeypatch):
    monkeypatch.setenv("MQTT_URL", "mqtt://user@host")
    monkeypatch.setenv("MQTT_PASSWORD", "a#b/c?d[e@f%23")
    assert load_settings(Everything).mqtt_url.password == "a#b/c?d[e@f%23"


@pytest.mark.parametrize("url", ["mqtt://user:other@host", "mqtt://host"])
def test_a_password_of_its_own_needs_a_user_and_no_other_password(monkeypatch, url):
    monkeypatch.setenv("MQTT_URL", url)
    monkeypatch.setenv("MQTT_PASSWORD", "s3cret")
    assert complaint().startswith("MQTT_URL: ")
    assert "s3cret" not in complaint()


def test_secrets_come_from_files(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("of-a-file\n")
    (tmp_path / ".env").write_text(f"MQTT_URL=mqtt://u@host\nMQTT_PASSWORD_FILE={tmp_path / 'token'}\nINFLUX_TOKEN=\n")
    monkeypatch.setenv("ADMIN_TOKEN_FILE", str(tmp_path / "token"))
    settings = load_settings(Everything)
    assert settings.admin_token.get_secret_value() == "of-a-file"
    assert settings.mqtt_url.password == "of-a-file"
    assert settings.influx_token is None


def test_a_secret_that_is_given_twice_or_whose_file_is_not_there_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "two").write_text("s3cret\nother\n")
    monkeypatch.setenv("ADMIN_TOKEN_FILE", str(tmp_path / "two"))
    assert complaint() == f"ADMIN_TOKEN_FILE: expected a file with one line, got more in '{tmp_path / 'two'}'"
    monkeypatch.setenv("ADMIN_TOKEN_FILE", "/dev/zero")
    assert complaint() == "ADMIN_TOKEN_FILE: expected a file of at most 65536 bytes, got more in '/dev/zero'"
    monkeypatch.setenv("ADMIN_TOKEN_FILE", str(tmp_path / "none"))
    assert complaint() == (
        "ADMIN_TOKEN_FILE: expected a file with the secret, got something else (hidden) "
        f"(there is no such file below {tmp_path})"
    )
    monkeypatch.setenv("ADMIN_TOKEN", "s3cret")
    assert complaint() == "ADMIN_TOKEN_FILE: expected either it or ADMIN_TOKEN, got both"


@pytest.mark.parametrize("secret", ["mqtts://u:s3cret@host:1", "s3cret", "/s3cret+base64=", "~/s3cret", "s3cret" * 99])
@pytest.mark.parametrize("variable", ["MQTT_URL_FILE", "MQTT_PASSWORD_FILE", "ADMIN_TOKEN_FILE", "INFLUX_TOKEN_FILE"])
def test_a_secret_that_is_given_instead_of_its_file_is_hidden(monkeypatch, variable, secret):
    monkeypatch.setenv(variable, secret)
    text = complaint()
    assert text.startswith(f"{variable}: expected a file with the secret, got something else (hidden)")
    assert "s3cret" not in text


def test_published_and_short_secrets_are_known(monkeypatch):
    assert load_settings(Everything).unsafe_secrets == {}
    monkeypatch.setenv("MQTT_URL", "mqtt://u:change-me-writer@host")
    monkeypatch.setenv("ADMIN_TOKEN", "change-me-admin-token")
    monkeypatch.setenv("INFLUX_TOKEN", "fifteen-letters")
    assert load_settings(Everything).unsafe_secrets == {
        "published_secrets": ("ADMIN_TOKEN", "MQTT_URL"),
        "short_secrets": ("INFLUX_TOKEN",),
    }
    monkeypatch.setenv("INFLUX_TOKEN", "sixteen-letters.")
    assert "short_secrets" not in load_settings(Everything).unsafe_secrets


def test_tls_files_are_checked_at_the_start(monkeypatch, tmp_path):
    monkeypatch.setenv("MQTT_URL", "mqtts://host")
    monkeypatch.setenv("MQTT_CA_FILE", str(tmp_path / "none.pem"))
    assert complaint().startswith("MQTT_CA_FILE: expected a file of certificates")
    (tmp_path / "none.pem").write_text("no certificate")
    assert "no certificate in PEM form" in complaint()
    monkeypatch.delenv("MQTT_CA_FILE")
    monkeypatch.setenv("HTTP_CERT_FILE", str(tmp_path / "none.pem"))
    assert complaint().startswith("HTTP_CERT_FILE: expected a file with a certificate")


@pytest.mark.parametrize("kind", ["CLIENT_CA", "KEY", "CERT"])
def test_pem_text_that_is_given_instead_of_its_file_is_hidden(monkeypatch, certificates, kind):
    monkeypatch.setenv("HTTP_CERT_FILE", str(certificates.cert("client")))
    monkeypatch.setenv(f"HTTP_{kind}_FILE", certificates.key("client").read_text())
    text = complaint()
    assert text.startswith(f"HTTP_{kind}_FILE: expected a file ")
    assert "got something else (hidden) (it is PEM text, not the path of a file)" in text
    assert "BEGIN" not in text


def test_tls_files_are_for_tls(monkeypatch, certificates):
    monkeypatch.setenv("MQTT_CA_FILE", str(certificates.ca))
    assert "mqtts://" in complaint()
    monkeypatch.setenv("MQTT_URL", "mqtts://host")
    assert load_settings(Everything).mqtt_url.tls_files.ca_file == certificates.ca


@pytest.mark.parametrize("variable", ["HTTP_CLIENT_CA_FILE", "HTTP_KEY_FILE", "MQTT_KEY_FILE"])
def test_a_file_that_would_do_nothing_without_a_certificate_is_refused(monkeypatch, certificates, variable):
    monkeypatch.setenv("MQTT_URL", "mqtts://host")
    monkeypatch.setenv(variable, str(certificates.ca))
    assert f"{variable} requires it" in complaint()


def test_quotation_of_a_hidden_value_is_left_out(monkeypatch):
    monkeypatch.setenv("SYMBOLS", "wss://user:secret@host")
    assert complaint().endswith(", got 'wss://***'")


def test_token_is_not_repeated(monkeypatch):
    class Long(Everything):
        admin_token: int

    monkeypatch.setenv("ADMIN_TOKEN", "secret-token")
    text = complaint(Long)
    assert "ADMIN_TOKEN" in text
    assert "secret-token" not in text
