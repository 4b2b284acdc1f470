"""Batches on their way into a bucket: what the server rejects is found, and the rest is written."""

from collections.abc import Sequence
from dataclasses import dataclass

from ingress_store.influx.server import RefusedError, Server
from ingress_store.port import Rejection

BATCH_LINES = 5_000
"""Lines in one request, at most."""

_TOO_LARGE = 413


@dataclass(frozen=True, slots=True)
class Line:
    """A rendered row, and its place in what was given."""

    index: int
    text: str


async def write_lines(server: Server, bucket: str, precision: str, lines: Sequence[Line]) -> list[Rejection]:
    """Write `lines`, oldest first, and name those that the server does not take, with its reason.

    A rejected batch is cut in two until the bad lines stand alone; writing a good one twice changes nothing. Where the
    server says that it dropped them all, as it does with what is older than the retention, no further cut is needed.
    """
    rejected: list[Rejection] = []
    parts = [list(lines[start : start + BATCH_LINES]) for start in range(0, len(lines), BATCH_LINES)][::-1]
    while parts:
        part = parts.pop()
        try:
            await server.write(bucket, precision, [line.text for line in part])
        except RefusedError as error:
            if len(part) == 1 or (error.status != _TOO_LARGE and error.dropped == len(part)):
                rejected += (Rejection(line.index, str(error)) for line in part)
            else:
                middle = len(part) // 2
                parts += (part[middle:], part[:middle])
    return rejected
