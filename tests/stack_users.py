"""A Mosquitto with the users and rights of the stack, and one user who may do everything."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingress_common.bus.url import MqttUrl
from ingress_common.tls import TlsFiles
from servers import FOLDER, TLS_LISTENER, Certificates, missing

_RIGHTS = (Path(__file__).resolve().parents[1] / "deploy/mosquitto/acl").read_text()
PREFIX = "ingress"
TESTER = "tester"
"""The user who may do everything."""
USERS = tuple(re.findall(r"^user (\S+)$", _RIGHTS, re.MULTILINE))
"""Everybody whom the broker of the stack knows."""


def stack_mosquitto(
    mosquitto_of: Any, folder: Path, certificates: Certificates | None = None
) -> Callable[..., MqttUrl]:
    """Start it, over TLS with `certificates`; gives its URL by user and password, which is the user's own by default.

    `folder` gets its files. Skips without `mosquitto_passwd`.
    """
    if shutil.which("mosquitto_passwd") is None:
        missing("mosquitto_passwd", "install the package mosquitto")
    passwords, acl = folder / "passwords", folder / "acl"
    passwords.write_text("".join(f"{user}:password-of-{user}\n" for user in (*USERS, TESTER)))
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
    acl.write_text(f"{_RIGHTS.replace('prefix/', f'{PREFIX}/')}\nuser {TESTER}\ntopic readwrite #\n")
    for file in (passwords, acl):
        file.chmod(0o644)
    extra = f"allow_anonymous false\nsys_interval 1\npassword_file {FOLDER}/passwords\nacl_file {FOLDER}/acl\n"
    files = (passwords, acl, *(certificates.of_broker if certificates else ()))
    server = mosquitto_of(extra + (TLS_LISTENER if certificates else ""), files)
    trusted = TlsFiles(certificates.ca) if certificates else TlsFiles()

    def url(user: str, password: str | None = None) -> MqttUrl:
        secret = password or f"password-of-{user}"
        return MqttUrl("127.0.0.1", server.port, certificates is not None, user, secret, trusted)

    return url
