"""Reads archive files in pieces of complete lines."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any
from zipfile import BadZipFile

import polars as pl

from crypto_ingress.archive import BYTE_ORDER_MARK, is_header
from crypto_ingress.history.files import ArchiveFile, compression_of

_BLOCK_BYTES = 8 * 1024 * 1024


def text_table(lines: bytes, **options: Any) -> pl.DataFrame:
    """`polars.read_csv` of lines without a header and without quotes.

    ComputeError if they begin like compressed data, which polars would decompress.
    """
    if packed := compression_of(lines):
        raise pl.exceptions.ComputeError(f"expected text, got {packed}-compressed data")
    return pl.read_csv(lines, has_header=False, quote_char=None, **options)


def pieces_of(file: ArchiveFile, fail: Callable[[str], None]) -> Iterator[tuple[bytes, int]]:
    """Complete lines, up to 8 MiB at a time, and the bytes read so far. `fail` gets the reason if a file ends early.

    A header becomes a blank line, in a piece of its own.
    """
    rest, is_first = b"", True
    try:
        with file.open() as stream:
            while piece := stream.read(_BLOCK_BYTES):
                cut = piece.rfind(b"\n") + 1
                if not cut:
                    rest += piece
                    continue
                lines, rest = rest + piece[:cut], piece[cut:]
                if is_first:
                    header, lines = _header(lines, file.label)
                    if header:
                        yield b"\n", len(header)
                    is_first = False
                if lines:
                    yield lines, file.position(stream)
    except (OSError, BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # The last line is discarded: it may be cut and still look complete.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fail(f"cannot be read to its end: {reason or type(error).__name__}")
        return
    if rest:
        yield rest.removeprefix(BYTE_ORDER_MARK) if is_first else rest, file.size


def _header(lines: bytes, label: str) -> tuple[bytes, bytes]:
    """The header at the start of a file, empty if there is none, and the lines after it."""
    first, end, after = lines.removeprefix(BYTE_ORDER_MARK).partition(b"\n")
    return (first + end, after) if is_header(first, label) else (b"", first + end + after)
