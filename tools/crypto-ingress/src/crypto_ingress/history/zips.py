"""Damaged zip archives: finds the intact members of a truncated archive, and checks members."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_SIGNATURE = b"PK\x03\x04"
_DESCRIPTOR = b"PK\x07\x08"
_SIZES_FOLLOW = 0x08
_ENCRYPTED = 0x01
_PIECE = 1024 * 1024


def whole_members(path: Path) -> list[zipfile.ZipInfo]:
    """The intact members of a truncated zip archive, which has lost the directory at its end.

    The first truncated or damaged member ends the search. OSError if the file cannot be read.
    """
    found: list[zipfile.ZipInfo] = []
    with path.open("rb") as file:
        while (member := _next_member(file)) is not None:
            found.append(member)
    return found


@contextmanager
def opened_member(path: Path, member: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    """Open the unpacked bytes of a member.

    Unlike `ZipFile.open` this does not read the archive's directory, which has 24,000 entries in Kraken's archive, once
    more for each member. OSError, BadZipFile, NotImplementedError or RuntimeError on failure.
    """
    with path.open("rb") as file:
        file.seek(member.header_offset)
        raw = file.read(_LOCAL_HEADER.size)
        if len(raw) < _LOCAL_HEADER.size or not raw.startswith(_SIGNATURE):
            raise zipfile.BadZipFile(f"expected {member.filename} at byte {member.header_offset}, got other data")
        if member.flag_bits & _ENCRYPTED:
            raise RuntimeError(f"expected {member.filename} without a password, it is encrypted")
        header = _LOCAL_HEADER.unpack(raw)
        file.seek(header[9] + header[10], 1)
        with zipfile.ZipExtFile(file, "r", member) as unpacked:
            yield cast("IO[bytes]", unpacked)


def damage(stream: IO[bytes]) -> str | None:
    """The error found by reading a member to its end and checking its checksum; None if it is intact."""
    try:
        while stream.read(_PIECE):
            pass
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        return str(error) or type(error).__name__
    return None


def _next_member(file: IO[bytes]) -> zipfile.ZipInfo | None:
    offset = file.tell()
    raw = file.read(_LOCAL_HEADER.size)
    if len(raw) < _LOCAL_HEADER.size:
        return None
    signature, _, flags, method, _, _, crc, _, _, name_length, extra_length = _LOCAL_HEADER.unpack(raw)
    if signature != _SIGNATURE or flags & _ENCRYPTED or method != zipfile.ZIP_DEFLATED:
        return None
    name = file.read(name_length).decode(errors="replace")
    file.seek(extra_length, 1)
    start = file.tell()
    unpacker, size, sum_of = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    try:
        while not unpacker.eof:
            piece = file.read(_PIECE)
            if not piece:
                return None
            unpacked = unpacker.decompress(piece)
            size, sum_of = size + len(unpacked), zlib.crc32(unpacked, sum_of)
    except zlib.error:
        return None
    end = file.tell() - len(unpacker.unused_data)
    file.seek(end)
    if flags & _SIZES_FOLLOW:
        crc = _described_crc(file)
    if crc != sum_of:
        return None
    member = zipfile.ZipInfo(name)
    member.header_offset, member.compress_type, member.CRC = offset, zipfile.ZIP_DEFLATED, sum_of
    member.compress_size, member.file_size = end - start, size
    return member


def _described_crc(file: IO[bytes]) -> int | None:
    """The checksum in the data descriptor after a member; moves the file to the next member."""
    follows = file.read(24)
    body = follows[4:] if follows.startswith(_DESCRIPTOR) else follows
    if len(body) < 12:
        return None
    crc: int = struct.unpack("<I", body[:4])[0]
    # Sizes have 32 or 64 bits; the position of the next signature shows which.
    used = len(follows) - len(body) + (12 if body[12:16] in (_SIGNATURE, b"PK\x01\x02", b"") else 20)
    file.seek(used - len(follows), 1)
    return crc
