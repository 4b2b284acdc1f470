"""Reads archive files in pieces of complete lines."""

import zlib
from collections.abc import Callable, Iterator
from zipfile import BadZipFile

from crypto_ingress.history.files import ArchiveFile

_BLOCK_BYTES = 8 * 1024 * 1024


def pieces_of(file: ArchiveFile, fail: Callable[[str], None]) -> Iterator[tuple[bytes, int]]:
    """Complete lines, up to 8 MiB at a time, and the bytes read so far. `fail` gets the reason if a file ends early."""
    rest = b""
    try:
        with file.open() as stream:
            while piece := stream.read(_BLOCK_BYTES):
                cut = piece.rfind(b"\n") + 1
                if not cut:
                    rest += piece
                    continue
                yield rest + piece[:cut], file.position(stream)
                rest = piece[cut:]
    except (OSError, BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # The last line is discarded: it may be cut and still look complete.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fail(f"cannot be read to its end: {reason or type(error).__name__}")
        return
    if rest:
        yield rest, file.size
