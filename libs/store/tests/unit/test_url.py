"""Store URLs, and the setting that holds one."""

from pathlib import Path

import pytest

from ingress_common.errors import SettingsError
from ingress_common.settings import load_settings
from ingress_store import InfluxUrl, SqliteUrl, StoreUrlError, parse_store_url
from ingress_store.settings import StoreSettings
from unset import unset


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    unset(monkeypatch, StoreSettings, tmp_path)


def complaint(monkeypatch, url: str) -> str:
    monkeypatch.setenv("STORE_URL", url)
    with pytest.raises(SettingsError) as caught:
        load_settings(StoreSettings)
    text = str(caught.value)
    assert text.startswith("STORE_URL: expected a store URL such as influxdb://")
    return text


@pytest.mark.parametrize(
    ("text", "path"), [("sqlite:///data/c.db", Path("data/c.db")), ("sqlite:////var/c.db", Path("/var/c.db"))]
)
def test_sqlite_url_is_a_relative_or_an_absolute_path(text, path):
    assert parse_store_url(text) == SqliteUrl(path)
    assert str(SqliteUrl(path)) == text


@pytest.mark.parametrize(
    ("text", "http"),
    [
        ("influxdb://host", "http://host:8086"),
        ("influxdb://[::1]:1", "http://[::1]:1"),
        ("influxdbs://host:443/behind/a/proxy", "https://host:443/behind/a/proxy"),
    ],
)
def test_influxdb_url_has_the_http_address_of_the_server(text, http):
    url = parse_store_url(text)
    assert url == InfluxUrl(text, http, tls=http.startswith("https"))
    assert str(url) == text


@pytest.mark.parametrize("text", ["influxdb://", "influxdb://user:password@host", "influxdb://host:99999"])
def test_malformed_influxdb_url_is_refused_without_showing_a_password(text):
    with pytest.raises(StoreUrlError) as caught:
        parse_store_url(text)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "sqlite://", "sqlite:///", "c.db"])
def test_other_urls_are_refused(text):
    with pytest.raises(StoreUrlError, match="it has no"):
        parse_store_url(text)


@pytest.mark.parametrize(
    ("url", "reason"),
    [("postgres://host", "'postgres://host'"), ("influxdb://", "it has no host"), ("sqlite://file", "three slashes")],
)
def test_setting_names_what_is_wrong(monkeypatch, url, reason):
    assert reason in complaint(monkeypatch, url)


@pytest.mark.parametrize(
    "url",
    [
        "influxdb://host:8086?token=secret",
        "influxdb://secret@host",
        "influxdb://:secret@host",
        "influxdb://host/#secret",
        "sqlite:////var/candles.db?key=secret",
        "sqlite:///user:secret@host/db",
    ],
)
def test_url_that_may_hold_a_secret_is_refused_because_it_is_shown(monkeypatch, url):
    text = complaint(monkeypatch, url)
    assert "which is shown to everyone" in text
    assert "secret" not in text


@pytest.mark.parametrize("url", ["sqlite://user:secret@host/db", "influxdb://user:pa@secret:word"])
def test_malformed_url_with_a_user_is_shown_by_its_scheme_alone(monkeypatch, url):
    assert f", got '{url.partition(':')[0]}://***' (" in complaint(monkeypatch, url)


@pytest.mark.parametrize(
    ("variable", "value"), [("RETENTION", "user:secret@host"), ("INFLUX_ORG", "http://user:secret@host")]
)
def test_no_other_setting_shows_a_password(monkeypatch, variable, value):
    monkeypatch.setenv("STORE_URL", "influxdb://host")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: expected ") as caught:
        load_settings(StoreSettings)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("raw", "#/?[] ")
def test_raw_character_in_a_password_is_explained_and_no_part_of_it_is_shown(monkeypatch, raw):
    text = complaint(monkeypatch, f"influxdb://user:abc{raw}xyz@host:1")
    assert "%23" in text
    assert "abc" not in text
    assert "xyz" not in text


def test_store_is_named_alike_by_all_services_of_a_stack(monkeypatch, tmp_path):
    assert load_settings(StoreSettings, store_url="sqlite:///c.db").store_name == f"sqlite:///{tmp_path}/c.db"
    monkeypatch.setenv("INFLUX_ORG", "trading")
    assert load_settings(StoreSettings, store_url="influxdb://host:8086/").store_name == "influxdb://host:8086 trading"


@pytest.mark.parametrize("token", ["se\ncret", "se\tcret", "s\u00e9cret"])
def test_token_that_cannot_be_sent_is_refused_without_showing_it(monkeypatch, token):
    monkeypatch.setenv("STORE_URL", "influxdb://host")
    monkeypatch.setenv("INFLUX_TOKEN", token)
    with pytest.raises(SettingsError, match="INFLUX_TOKEN: expected a token of InfluxDB, got something else") as caught:
        load_settings(StoreSettings)
    assert "cret" not in str(caught.value)
