"""URLs in settings: their parts, without showing the secrets that they may contain."""

import re
from urllib.parse import SplitResult, urlsplit


def split_url(text: str) -> SplitResult:
    """The parts of a URL. ValueError, without user and password, if these contain a character that must be encoded or
    if the address or port is malformed.
    """
    credentials, at, _ = text.partition("://")[2].rpartition("@")
    if at and re.search(r"[/?#\[\]\s]", credentials):
        raise ValueError(
            "encode these characters in the user and password of a URL: # as %23, / as %2F, ? as %3F, [ as %5B, "
            "] as %5D, a blank as %20, % as %25"
        )
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises what is wrong with it
    except ValueError:
        raise ValueError("the address or port is malformed; a port is a number from 1 to 65535") from None
    return parts


def bracketed(host: str) -> str:
    """`host` as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def plain_url(text: str, *schemes: str) -> str:
    """`text` without a trailing slash, if it is `scheme://host[:port][/path]` of one of `schemes`, else ValueError.

    Anything else may hold a secret, and addresses are shown in logs and statuses.
    """
    parts = split_url(text)
    if parts.scheme not in schemes:
        found = "the scheme is not" if parts.scheme else "it has no scheme, expected"
        raise ValueError(f"{found} {' or '.join(schemes)}")
    if not parts.hostname:
        raise ValueError("it has no host")
    if parts.port == 0:
        raise ValueError("port 0 cannot be connected to")
    # An empty user may have a password, so the separators count, not what they separate.
    for name, found_one in (("a user", "@" in parts.netloc), ("a query", "?" in text), ("a fragment", "#" in text)):
        if found_one:
            raise ValueError(f"it contains {name}, which is shown to everyone")
    if any(c.isspace() for c in text):
        raise ValueError("it contains a blank")
    host = bracketed(parts.hostname)
    if parts.netloc.lower() not in (host, f"{host}:{parts.port}") or "//" in parts.path:
        raise ValueError("it is not scheme://host:port/path")
    return text.rstrip("/")
