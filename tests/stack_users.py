"""A Mosquitto with the users and rights of the stack, and one user who may do everything."""

import re
import shutil
import subprocess
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


class StackMosquitto:
    """Started with files in `folder`, over TLS with `certificates`. Skips without `mosquitto_passwd`."""

    def __init__(self, mosquitto_of: Any, folder: Path, certificates: Certificates | None = None) -> None:
        if shutil.which("mosquitto_passwd") is None:
            missing("mosquitto_passwd", "install the package mosquitto")
        self._tls = TlsFiles(certificates.ca) if certificates else TlsFiles()
        self._encrypted = certificates is not None
        acl = folder / "acl"
        self._rights = f"{_RIGHTS.replace('prefix/', f'{PREFIX}/')}\nuser {TESTER}\ntopic readwrite #\n"
        passwords = folder / "passwords"
        passwords.write_text("".join(f"{user}:password-of-{user}\n" for user in (*USERS, TESTER)))
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
        acl.write_text(self._rights)
        for file in (passwords, acl):
            file.chmod(0o644)
        extra = f"allow_anonymous false\nsys_interval 1\npassword_file {FOLDER}/passwords\nacl_file {FOLDER}/acl\n"
        files = (passwords, acl, *(certificates.of_broker if certificates else ()))
        self._server = mosquitto_of(extra + (TLS_LISTENER if certificates else ""), files)
        self._read_acl = self._server.folder / "acl"

    def url(self, user: str, password: str | None = None) -> MqttUrl:
        """The URL by user and password, which is the user's own by default."""
        secret = password or f"password-of-{user}"
        return MqttUrl("127.0.0.1", self._server.port, self._encrypted, user, secret, self._tls)

    def deny(self, user: str, topic: str) -> None:
        """Take from `user` the rights to `topic` (without the prefix) while everybody stays connected."""
        head = f"user {user}\n"
        assert head in self._rights
        self._change(self._rights.replace(head, f"{head}topic deny {PREFIX}/{topic}\n"))

    def allow_all(self) -> None:
        """Give back what was denied."""
        self._change(self._rights)

    def _change(self, rights: str) -> None:
        self._read_acl.write_text(rights)
        self._server.reload()
