"""What a complaint may show of a wrong setting: nothing that may be a secret.

A secret is often given to the wrong setting, and a malformed address does not show where its password ends. So a text
is shown only where it cannot be one.
"""

import os.path
import re
from pathlib import Path

HIDDEN = "something else (hidden)"

_PLAIN = re.compile(r"[^:@,]{0,32}(,[^:@,]{0,32})*")
"""Without `user:password`, and shorter than a token."""

_SCHEMES = frozenset(
    {"mqtt", "mqtts", "tcp", "ssl", "ws", "wss", "http", "https", "influxdb", "influxdbs", "sqlite", "postgres"}
    | {"socks", "socks4", "socks4a", "socks5", "socks5h"}
)
"""Schemes that are shown where they are wrong; any other may be a part of a password."""

_PEM = "-----BEGIN"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]*)(?=[:/?#]|$)")
_PORT = re.compile(r":([0-9]{1,5})(?=/?$)")
"""A port that ends the URL; before anything else it may be the beginning of a password."""

_HIGHEST_PORT = 65535

_ADDRESS = re.compile(
    r"[0-9]{1,3}(\.[0-9]{1,3}){1,3}(/[0-9]{1,3}|:[0-9]{1,5})?"
    r"|[0-9A-Fa-f]{0,4}(:[0-9A-Fa-f]{0,4}){2,7}(/[0-9]{1,3})?"
    r"|\*"
)
"""What looks like an IP address or network, and * for all of them."""


def shown_text(text: str) -> str:
    """A wrong value, quoted, or instead of it that it is hidden."""
    if _PLAIN.fullmatch(text):
        return repr(text)
    return shown_url(text) if "://" in text else HIDDEN


def shown_address(text: str) -> str:
    """A wrong IP address or network, quoted, if it looks like one: a host name may be a password."""
    if _ADDRESS.fullmatch(text):
        return repr(text)
    return shown_url(text) if "://" in text else HIDDEN


def shown_url(text: str) -> str:
    """A wrong URL, quoted: its scheme, host and port. With an @ the scheme alone, because of a malformed address
    everything else may be a part of the password.
    """
    scheme, separator, address = text.partition("://")
    if not separator:
        return "something without :// (hidden)"
    if not is_known_scheme(scheme):
        return "something with an unknown scheme (hidden)"
    host = None if "@" in address else _HOST.match(address)
    if host is None:
        return repr(f"{scheme}://***")
    end = host.end()
    port = _PORT.match(address, end)
    if port is not None and int(port[1]) <= _HIGHEST_PORT:
        end = port.end()
    return repr(f"{scheme}://{address[:end]}{_masked(address[end:])}")


def is_known_scheme(text: str) -> bool:
    """Whether `text` is the scheme of some kind of URL, and so no secret."""
    return text.lower() in _SCHEMES


def shown_path(text: str) -> str:
    """A path, quoted, if there is such a file or folder: any other may be a secret given instead of its file."""
    return repr(text) if os.path.exists(text) else HIDDEN  # noqa: PTH110 - Path raises for a long name


def file_objection(text: str) -> str | None:
    """Why `text` names no file that can be read; None if it does. The reason shows only folders that exist."""
    try:
        with Path(text).open("rb"):
            return None
    except (OSError, ValueError) as error:
        return read_failure(text, error)


def read_failure(text: str, error: OSError | ValueError) -> str:
    """Why the file that `text` names could not be read, by the error. The reason shows only folders that exist."""
    if _PEM in text:
        return "it is PEM text, not the path of a file"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"there is no such file below {_folder(text)}"
    if isinstance(error, OSError):
        return f"it cannot be read: {error.strerror}"
    return "it is not text" if isinstance(error, UnicodeDecodeError) else "it contains a character that no path has"


def is_key(text: str) -> bool:
    """Whether `text` holds a key or certificate itself, in PEM form."""
    return _PEM in text


def holds_credentials(text: str) -> bool:
    """Whether `text` may hold `user:password@`."""
    return re.search(":.*@", text, re.DOTALL) is not None


def _folder(path: str) -> Path:
    """The deepest folder above `path` that exists."""
    parents = Path(path).absolute().parents
    return next((folder for folder in parents if os.path.isdir(folder)), Path("/"))  # noqa: PTH112 - see above


def _masked(rest: str) -> str:
    return f"{rest[:1]}{'***' if len(rest) > 1 else ''}"
