"""Starts the service of this container under an instance name that outlives the container.

Docker names a container's host at random, so every recreated one would be a new instance, and leave the retained status
of the old one on the bus. Compose numbers its containers, and Docker's DNS knows them: INSTANCE_ID becomes what
`docker ps` shows, such as crypto-ingress-aggregator-2. Where there is no such DNS the service takes the host name.
"""

import os
import secrets
import socket
import struct
import sys

_RESOLVER = ("127.0.0.11", 53)
_PTR = 12


def container_name() -> str | None:
    """The name of this container; None if Docker's DNS does not know it."""
    try:
        name = _reverse_lookup(socket.gethostbyname(socket.gethostname()))
    except (OSError, struct.error, IndexError, UnicodeDecodeError, RecursionError):
        return None
    # The network's name follows the container's.
    return name.partition(".")[0] or None


def _reverse_lookup(address: str) -> str:
    # The libc would use /etc/hosts, which has only the random name.
    question = [*reversed(address.split(".")), "in-addr", "arpa"]
    number = secrets.randbelow(65536)
    packet = struct.pack(">6H", number, 0x0100, 1, 0, 0, 0)
    packet += b"".join(bytes([len(label)]) + label.encode() for label in question) + b"\0" + struct.pack(">2H", _PTR, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.settimeout(2)
        resolver.connect(_RESOLVER)
        resolver.send(packet)
        answer = resolver.recv(512)
    answered, _, _, answers = struct.unpack(">4H", answer[:8])
    if answered != number or not answers:
        raise OSError("no answer")
    _, record = _name(answer, len(packet))
    # Type, class, time to live and length take 10 bytes.
    return _name(answer, record + 10)[0]


def _name(answer: bytes, at: int) -> tuple[str, int]:
    """The domain name at `at`, and its end; a pointer may lead to the rest of the name."""
    labels = []
    while size := answer[at]:
        if size >= 0xC0:
            rest, _ = _name(answer, ((size & 0x3F) << 8) | answer[at + 1])
            return ".".join([*labels, rest]), at + 2
        labels.append(answer[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels), at + 1


def main() -> None:
    """Execute the service in this process, so that signals reach it."""
    service = os.environ["SERVICE"]
    if not os.environ.get("INSTANCE_ID") and (name := container_name()):
        os.environ["INSTANCE_ID"] = name
    os.execv(sys.executable, [sys.executable, "-m", service.replace("-", "_"), *sys.argv[1:]])  # noqa: S606 - nothing here comes from outside


if __name__ == "__main__":
    main()
