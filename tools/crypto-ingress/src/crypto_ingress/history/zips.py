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
_DESCRIPTOR_BYTES = 24
_SIZES_FOLLOW = 0x08
_ENCRYPTED = 0x01
_IN_EXTRA = 0xFFFFFFFF
_ZIP64 = 0x0001
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
    signature, _, flags, method, _, _, crc, packed, _, name_length, extra_length = _LOCAL_HEADER.unpack(raw)
    if signature != _SIGNATURE or flags & _ENCRYPTED or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return None
    name = file.read(name_length).decode(errors="replace")
    extra = file.read(extra_length)
    start = file.tell()
    if method == zipfile.ZIP_DEFLATED:
        content = _inflated(file)
    elif flags & _SIZES_FOLLOW:
        content = _stored(file, _described_size(file))
    else:
        content = _stored(file, packed if packed < _IN_EXTRA else _size_in(extra))
    if content is None:
        return None
    size, sum_of = content
    end = file.tell()
    if flags & _SIZES_FOLLOW:
        crc = _described_crc(file)
    if crc != sum_of:
        return None
    member = zipfile.ZipInfo(name)
    member.header_offset, member.compress_type, member.CRC = offset, method, sum_of
    member.compress_size, member.file_size = end - start, size
    return member


def _inflated(file: IO[bytes]) -> tuple[int, int] | None:
    """Return size and checksum of a deflate stream; leave the file at its end. None if it is damaged."""
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
    file.seek(-len(unpacker.unused_data), 1)
    return size, sum_of


def _stored(file: IO[bytes], size: int | None) -> tuple[int, int] | None:
    """Size and checksum of content that is not packed; moves the file to its end. None if it is cut off."""
    left, sum_of = size, 0
    while left:
        piece = file.read(min(left, _PIECE))
        if not piece:
            return None
        left, sum_of = left - len(piece), zlib.crc32(piece, sum_of)
    return None if size is None else (size, sum_of)


def _size_in(extra: bytes) -> int | None:
    """The 64-bit packed size in the extra fields of a local header."""
    while len(extra) >= 4:
        kind, length = struct.unpack("<2H", extra[:4])
        if kind == _ZIP64 and length >= 16:
            packed: int = struct.unpack("<Q", extra[12:20])[0]
            return packed
        extra = extra[4 + length :]
    return None


def _described_size(file: IO[bytes]) -> int | None:
    """The size of content that is not packed and followed by a data descriptor; leaves the file where it is.

    The descriptor is the first one whose size is the distance from the start.
    """
    start, before = file.tell(), b""
    found = None
    while found is None and (piece := file.read(_PIECE)):
        data, offset = before + piece, file.tell() - start - len(before) - len(piece)
        at = data.find(_DESCRIPTOR)
        while at >= 0 and found is None:
            if data[at + 8 : at + 12] == struct.pack("<Q", offset + at)[:4]:
                found = offset + at
            at = data.find(_DESCRIPTOR, at + 1)
        before = data[-_DESCRIPTOR_BYTES:]
    file.seek(start)
    return found


def _described_crc(file: IO[bytes]) -> int | None:
    """The checksum in the data descriptor after a member; moves the file to the next member."""
    follows = file.read(_DESCRIPTOR_BYTES)
    body = follows[4:] if follows.startswith(_DESCRIPTOR) else follows
    if len(body) < 12:
        return None
    crc: int = struct.unpack("<I", body[:4])[0]
    # Sizes have 32 or 64 bits; the position of the next signature shows which.
    used = len(follows) - len(body) + (12 if body[12:16] in (_SIGNATURE, b"PK\x01\x02", b"") else 20)
    file.seek(used - len(follows), 1)
    return crc
