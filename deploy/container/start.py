"""Starts the service of this container under a name that outlives the container.

Docker names a container's host at random, so every recreated one would leave its retained status on the bus for ever.
Compose numbers the replicas, and its DNS knows their names: `<project>-aggregator-2` gives INSTANCE_ID=aggregator-2.
Without Compose's DNS the service takes the host name, as always.
"""

import os
import random
import socket
import struct
import sys
from collections.abc import Iterator

_RESOLVER = ("127.0.0.11", 53)
_PTR = 12


def replica_name(service: str) -> str | None:
    """`<service>-<number>` of this replica, or None where nobody knows."""
    try:
        name = _reverse_lookup(socket.gethostbyname(socket.gethostname()))
    except (OSError, struct.error, IndexError, UnicodeDecodeError):
        return None
    _, found, number = name.partition(".")[0].rpartition(f"{service}-")
    return f"{service}-{number}" if found and number.isdecimal() else None


def _reverse_lookup(address: str) -> str:
    # The libc would answer from /etc/hosts, which has the random name only.
    question = [*reversed(address.split(".")), "in-addr", "arpa"]
    number = random.randrange(65536)
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
    # The record repeats the question's name as a pointer: name (2), type, class, time to live, length (10), then the name.
    return ".".join(_labels(answer, len(packet) + 12))


def _labels(answer: bytes, at: int) -> Iterator[str]:
    while size := answer[at]:
        if size >= 0xC0:
            at = ((size & 0x3F) << 8) | answer[at + 1]
            continue
        yield answer[at + 1 : at + 1 + size].decode()
        at += 1 + size


def main() -> None:
    """Become the service, in this process, so that signals reach it."""
    service = os.environ["SERVICE"]
    if not os.environ.get("INSTANCE_ID") and (name := replica_name(service)):
        os.environ["INSTANCE_ID"] = name
    os.execv(sys.executable, [sys.executable, "-m", service.replace("-", "_"), *sys.argv[1:]])


if __name__ == "__main__":
    main()
