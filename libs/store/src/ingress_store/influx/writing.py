"""Write lines to a bucket: find those that the server rejects, and write the rest."""

from collections.abc import Sequence

from ingress_store.errors import StoreUnavailableError
from ingress_store.influx.server import TOO_LARGE, RefusedError, Server
from ingress_store.port import Rejection

BATCH_LINES = 5_000
"""Maximum number of lines in one request."""

_MOST_IN_A_ROW = 10

Line = tuple[int, str]
"""A row as text, and its index in the batch."""


class RejectingError(StoreUnavailableError):
    """A bucket rejects line after line: the reason is not our rows."""


class LineWriter:
    """Writes lines, and finds those that the server rejects.

    If a server, or a proxy before it, rejects line after line, our rows are not the cause: the writer then rejects none
    of them, and the same lines are written later.
    """

    def __init__(self) -> None:
        self._in_a_row: dict[str, int] = {}  # lines that were rejected since the last accepted one, by bucket

    async def write(self, server: Server, bucket: str, precision: str, lines: Sequence[Line]) -> list[Rejection]:
        """Write `lines`; returns those that the server rejects, with its reason.

        A rejected batch is halved until the bad lines stand alone; to write a good line twice changes nothing. If the
        server reports that it dropped all of a batch, as with lines older than the retention, it is not halved further.

        StoreUnavailableError if not even one line is taken because of its size, RejectingError if line after line is
        rejected.
        """
        rejected: list[Rejection] = []
        parts = [lines[start : start + BATCH_LINES] for start in range(0, len(lines), BATCH_LINES)][::-1]
        while parts:
            part = parts.pop()
            try:
                await server.write(bucket, precision, "\n".join([text for _, text in part]).encode())
            except RefusedError as error:
                too_large = error.status == TOO_LARGE
                if too_large and len(part) == 1:
                    raise StoreUnavailableError(
                        f"{bucket}: a line alone is too large: {error.status} {error}"
                    ) from error
                if len(part) == 1 or (not too_large and error.dropped == len(part)):
                    if not error.is_partial_write:
                        self._count(bucket, len(part), error)
                    rejected += (Rejection(index, str(error)) for index, _ in part)
                else:
                    middle = len(part) // 2
                    # Oldest first, so that lines older than the retention stand together.
                    parts += (part[middle:], part[:middle])
            else:
                self._in_a_row[bucket] = 0
        return rejected

    def _count(self, bucket: str, lines: int, error: RefusedError) -> None:
        count = self._in_a_row.get(bucket, 0) + lines
        self._in_a_row[bucket] = min(count, _MOST_IN_A_ROW + 1)
        if count > _MOST_IN_A_ROW:
            raise RejectingError(f"{bucket}: line after line is rejected: {error.status} {error}") from error
