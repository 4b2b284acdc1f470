"""The environment's proxy variables, which the HTTP and WebSocket clients read by themselves."""

import urllib.request
from collections.abc import MutableMapping

from ingress_common.errors import SettingsError
from ingress_common.redaction import is_known_scheme
from ingress_common.urls import bracketed, split_url

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts that bypass the proxy: through a proxy they would mean the proxy's own machine."""

_OF_SCHEME = {
    "https": ("https", "all"),
    "http": ("http", "all"),
    "wss": ("wss", "https"),
    "ws": ("ws", "https", "http"),
}
"""The variables, without `_proxy`, that the clients read for a URL of each scheme, by precedence."""

_VARIABLES = ("https_proxy", "http_proxy", "all_proxy", "wss_proxy", "ws_proxy", "socks_proxy")


def prepare_proxies(environment: MutableMapping[str, str]) -> None:
    """Exclude loopback from the proxy in `environment` by extending its `no_proxy` variables.

    A proxy without a scheme gets `http://`. SettingsError, in one line, if a variable names a malformed proxy or one of
    another kind than HTTP, such as SOCKS.
    """
    named = {name: value for name, value in environment.items() if name.lower() in _VARIABLES and value.strip()}
    for name, value in named.items():
        # Some clients need the scheme that others add.
        environment[name] = _checked(name, value.strip() if "://" in value else f"http://{value.strip()}")
    if not named:
        return
    # Some clients read only the one, some only the other.
    both = ("no_proxy", "NO_PROXY")
    known = [part.strip() for name in both for part in environment.get(name, "").split(",") if part.strip()]
    for name in both:
        environment[name] = ",".join(dict.fromkeys((*known, *LOOPBACK)))


def route_to(url: str) -> str:
    """`url`, and the environment's proxy on the way to it, if any, without its user and password."""
    parts = split_url(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return url
    proxies = urllib.request.getproxies()
    named = next((proxies[name] for name in _OF_SCHEME[parts.scheme] if name in proxies), None)
    if named is None:
        return url
    proxy = split_url(named)
    port = f":{proxy.port}" if proxy.port else ""
    return f"{url} through the proxy {proxy.scheme}://{bracketed(proxy.hostname or '')}{port}"


def _checked(name: str, url: str) -> str:
    """`url`, if every client accepts it. Their own errors would show its password."""
    expected = f"{name}: expected a proxy of the form http://host:port"
    if name.lower() == "socks_proxy":
        # Whatever it holds, a client takes it for SOCKS.
        form = "a proxy of the form http://host:port"
        raise SettingsError(f"{name}: expected HTTPS_PROXY with {form}, got a SOCKS proxy")
    scheme = url.partition("://")[0].lower()
    if scheme not in ("http", "https"):
        raise SettingsError(f"{expected}, got {f'one of {scheme}://' if is_known_scheme(scheme) else 'another one'}")
    try:
        parts = split_url(url)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None
    usable = parts.hostname and parts.port != 0 and not (parts.path.strip("/") or parts.query or parts.fragment)
    if not usable or (parts.username is None) != (parts.password is None):
        raise SettingsError(f"{expected} or http://user:password@host:port, got another one")
    return url
