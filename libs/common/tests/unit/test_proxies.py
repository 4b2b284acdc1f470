"""Proxy variables: loopback bypasses them, and another kind of proxy is refused in one line."""

import os
import urllib.request

import httpx
import pytest

from ingress_common.errors import SettingsError
from ingress_common.proxies import prepare_proxies, route_to


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_loopback_never_goes_through_a_proxy(monkeypatch, name):
    environment = {name: "http://proxy.example:3128", "NO_PROXY": "internal.example"}
    prepare_proxies(environment)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    # Without certificates, which are slow to load and not needed here.
    with httpx.Client(verify=False) as client:
        for host in ("127.0.0.1", "localhost", "internal.example"):
            assert urllib.request.proxy_bypass(host)
            chosen = client._transport_for_url(httpx.URL(f"http://{host}:8700"))
            assert chosen is client._transport


def test_without_a_proxy_nothing_is_changed():
    environment = {"PATH": "/bin", "HTTP_PROXY": ""}
    prepare_proxies(environment)
    assert environment == {"PATH": "/bin", "HTTP_PROXY": ""}


def test_socks_is_refused_in_one_line_without_its_password():
    with pytest.raises(SettingsError) as caught:
        prepare_proxies({"ALL_PROXY": "socks5://user:secret@proxy.example:1080"})
    assert str(caught.value) == "ALL_PROXY: expected a proxy of the form http://host:port, got one of socks5://"


@pytest.mark.parametrize("proxy", ["socks5://user:secret@proxy.example:1080", "http://user:secret@proxy.example:1080"])
@pytest.mark.parametrize("name", ["socks_proxy", "SOCKS_PROXY"])
def test_the_variable_of_socks_is_refused_whatever_it_holds(name, proxy):
    with pytest.raises(SettingsError) as caught:
        prepare_proxies({name: proxy})
    assert str(caught.value).startswith(f"{name}: expected HTTPS_PROXY with a proxy of the form http://host:port")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:secr#et@proxy.example:3128",
        "http://user:secr/et@proxy.example:3128",
        "user:secret@proxy.example:port",
        "http://user:secret@",
        "http://secret@proxy.example:3128",
        "http://user:secret@proxy.example:3128/path",
        "http://:3128",
        "user:secr://et@proxy.example:3128",
        "secret://proxy.example:3128",
    ],
)
def test_a_malformed_proxy_is_refused_in_one_line_without_its_password(proxy):
    with pytest.raises(SettingsError) as caught:
        prepare_proxies({"HTTPS_PROXY": proxy})
    assert str(caught.value).startswith("HTTPS_PROXY: ")
    assert "secr" not in str(caught.value)


def test_a_proxy_without_a_scheme_is_one_of_http():
    environment = {"HTTPS_PROXY": "user:secret@proxy.example:3128"}
    prepare_proxies(environment)
    assert environment["HTTPS_PROXY"] == "http://user:secret@proxy.example:3128"


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("HTTPS_PROXY", "wss://kraken.example/v2"),
        ("HTTPS_PROXY", "https://kraken.example"),
        ("ALL_PROXY", "https://kraken.example"),
        ("HTTP_PROXY", "ws://kraken.example/v2"),
        ("WSS_PROXY", "wss://kraken.example/v2"),
    ],
)
def test_route_names_the_proxy_without_its_password(monkeypatch, no_proxies, variable, url):
    monkeypatch.setenv(variable, "http://user:s%23cret@proxy.example:3128")
    assert route_to(url) == f"{url} through the proxy http://proxy.example:3128"


def test_route_without_a_proxy_is_the_url(monkeypatch, no_proxies):
    assert route_to("wss://kraken.example/v2") == "wss://kraken.example/v2"
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    assert route_to("ws://127.0.0.1:8700/v2") == "ws://127.0.0.1:8700/v2"


@pytest.fixture
def no_proxies(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
