"""What is shown of a wrong value, and what is hidden because it may be a secret."""

import os

import pytest

from ingress_common.redaction import file_objection, holds_credentials, shown_address, shown_path, shown_text, shown_url


@pytest.mark.parametrize("text", ["loud", "", "BTC/USD,XBTUSD,*", "10.0.0.1/8", "a b", ",".join(["BTC/USD"] * 50)])
def test_a_plain_value_is_shown(text):
    assert shown_text(text) == repr(text)


@pytest.mark.parametrize("text", ["user:pw", "user:pw@host", "pw@host", "x" * 33, f"a,{'x' * 33},b"])
def test_a_value_that_may_be_credentials_or_a_token_is_hidden(text):
    assert shown_text(text) == "something else (hidden)"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host", "http://host"),
        ("http://host/", "http://host/"),
        ("wss://host:443/v2", "wss://host:***"),
        ("wss://host:443/", "wss://host:443/"),
        ("https://host?token=pw", "https://host?***"),
        ("mqtt://[::1]:1883", "mqtt://[::1]:1883"),
        ("sqlite://file", "sqlite://file"),
        ("sqlite:///data/c.db?key=pw", "sqlite:///***"),
        ("mqtt://host:port", "mqtt://host:***"),
        ("mqtt://host:70000", "mqtt://host:***"),
        ("mqtt://user:12/pw", "mqtt://user:***"),
        ("mqtts://user:22#pw", "mqtts://user:***"),
        ("mqtt://user:22?pw", "mqtt://user:***"),
        ("mqtt://user pw", "mqtt://***"),
        ("mqtt://writer:pa@ss:word", "mqtt://***"),
        ("mqtt://writer:pa@ssword", "mqtt://***"),
        ("influxdb://token@host", "influxdb://***"),
        ("sqlite://writer:pw@host/db", "sqlite://***"),
    ],
)
def test_a_url_is_shown_up_to_what_may_be_a_password(url, shown):
    assert shown_url(url) == shown_text(url) == repr(shown)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1:9000", "1.2.3", "::1", "fd00::/8", "2001:db8::", "*"])
def test_what_looks_like_an_ip_address_is_shown(text):
    assert shown_address(text) == repr(text)


@pytest.mark.parametrize("text", ["s3cret", "host.name", "10.0.0.1,s3cret", "12345678", "cafe", "10.0.0.0/s3cret", ""])
def test_what_is_no_ip_address_is_hidden_where_one_is_expected(text):
    assert shown_address(text) == "something else (hidden)"


@pytest.mark.parametrize("url", ["pw", "user:pw", "pw://host", "user:pw@host"])
def test_text_that_is_no_url_is_hidden(url):
    assert "pw" not in shown_url(url)


def test_a_path_is_shown_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("pw")
    for path in ("token", "./token", str(tmp_path / "token"), str(tmp_path)):
        assert shown_path(path) == repr(path)
    for path in ("s3cret", "/s3cret", str(tmp_path / "s3cret"), "s3cret" * 1000, "s3\0cret"):
        assert shown_path(path) == "something else (hidden)"


def test_a_file_that_cannot_be_read_is_explained_by_the_folder_that_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("pw")
    assert file_objection("token") is None
    for path in ("s3cret", "s3/cret", "token/s3cret", "~/s3cret"):
        assert file_objection(path) == f"there is no such file below {tmp_path}"
    assert file_objection("/s3cret+base64/s3cret=") == "there is no such file below /"
    assert file_objection(str(tmp_path)) == f"it cannot be read: {os.strerror(21)}"
    for path in ("s3cret" * 1000, "s3\0cret", "-----BEGIN PRIVATE KEY-----\ns3cret"):
        assert "cret" not in (file_objection(path) or "")


@pytest.mark.parametrize(("text", "holds"), [("u:p@h", True), ("u:\n@", True), ("u@h:1", False), ("/a@b/c", False)])
def test_credentials_are_a_colon_before_an_at_sign(text, holds):
    assert holds_credentials(text) == holds
