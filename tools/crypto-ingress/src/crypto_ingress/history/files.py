"""Discovery of archive files in zip archives and folders, and interpretation of their names."""

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

from crypto_ingress.archive import BYTE_ORDER_MARK, COLUMNS, EARLIEST, LATEST, ArchiveError, interval_of, is_header
from crypto_ingress.history.pairs import symbol_of_name
from crypto_ingress.history.zips import damage, opened_member, whole_members

_NAME = re.compile(r"(?P<pair>[A-Za-z0-9.]+?)(?:_(?P<interval>[0-9]+))?\.csv", re.IGNORECASE)
_QUARTER = re.compile(r"Q(?P<quarter>[1-4])[_-](?P<year>20[0-9]{2})(?![0-9])")
_READABLE = (".csv", ".zip")
_ARCHIVES = frozenset({".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".tar"})
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"PK\x03\x04": "zip",
    **dict.fromkeys((b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"), "zlib"),
}
_SAMPLE_BYTES = 64 * 1024
_CANDLE_COLUMNS, _TRADE_COLUMNS = 7, 3


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A problem with a file or a row: its place and a description. `used`: whether the data is used all the same."""

    where: str
    what: str
    used: bool = False

    def __str__(self) -> str:
        """A line for the report."""
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A file of candles or trades, alone or in a zip archive.

    `member`: its entry in a zip archive. `interval`: length of its candles in minutes; None for trades. `size`:
    unpacked bytes. `first`: time of its first valid row (unix seconds); 0 if unknown. `checked`: whether the member's
    checksum is known to be correct.
    """

    path: Path
    member: zipfile.ZipInfo | None
    size: int
    symbol: str
    interval: int | None
    first: float
    checked: bool = False

    @property
    def label(self) -> str:
        """The file's name for reports: path, and member of a zip archive."""
        return _label(self.path, self.member)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the unpacked bytes. OSError, BadZipFile or zlib.error on failure."""
        with _opened(self.path, self.member) as stream:
            yield stream

    @property
    def quarter(self) -> tuple[int, int] | None:
        """The quarter of a year (start and end in unix seconds) that the file covers completely.

        It comes from a name such as Kraken_OHLCVT_Q1_2023.zip; None for other names.
        """
        found = _QUARTER.search(self.label)
        if found is None:
            return None
        year, first = int(found["year"]), int(found["quarter"]) * 3 - 2
        end = datetime(year + first // 10, (first + 3 - 1) % 12 + 1, 1, tzinfo=UTC)
        return int(datetime(year, first, 1, tzinfo=UTC).timestamp()), int(end.timestamp())

    def damage(self) -> str | None:
        """The error found by checking a zip member's checksum; None if it is correct or the file has no checksum."""
        if self.member is None or self.checked:
            return None
        with self.open() as stream:
            return damage(stream)

    def position(self, stream: IO[bytes]) -> int:
        """Bytes read so far from `stream`."""
        return min(stream.tell(), self.size)


@dataclass(frozen=True, slots=True)
class ArchiveListing:
    """The usable archive files, and the problems of the others. `unread`: names of files that are no archive files."""

    files: tuple[ArchiveFile, ...]
    problems: tuple[FileProblem, ...]
    unread: tuple[str, ...]


def compression_of(data: bytes) -> str | None:
    """The kind of compression by which `data` begins; None if it may be text."""
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)


def find_files(paths: Iterable[Path], symbol: str | None) -> ArchiveListing:
    """The archive files in `paths`: zip archives, folders, single files.

    `symbol`: the pair to take, if the names contain it, else the pair of files whose names contain none or one other.
    """
    files: list[ArchiveFile] = []
    problems: list[FileProblem] = []
    unread: list[str] = []
    candidates = [candidate for path in paths for candidate in _places(path, problems, unread)]
    if symbol is not None:
        candidates = _of_symbol(candidates, symbol, problems)
    for candidate in candidates:
        found = _classified(candidate, symbol)
        if isinstance(found, FileProblem):
            problems.append(found)
        else:
            files.append(found)
    return ArchiveListing(tuple(files), tuple(problems), tuple(unread))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file that may be an archive file."""

    path: Path
    member: zipfile.ZipInfo | None
    size: int
    checked: bool = False

    @property
    def label(self) -> str:
        return _label(self.path, self.member)

    @property
    def name(self) -> str:
        return self.path.name if self.member is None else PurePosixPath(self.member.filename).name

    @property
    def symbol(self) -> str | None:
        """The pair that the name contains."""
        name = _NAME.fullmatch(self.name)
        return symbol_of_name(name["pair"]) if name else None


def _of_symbol(candidates: list[_Candidate], symbol: str, problems: list[FileProblem]) -> list[_Candidate]:
    """Return files whose name contains `symbol`; without any, all files if their names contain at most one pair."""
    named = {candidate.symbol for candidate in candidates} - {None}
    if symbol in named:
        return [candidate for candidate in candidates if candidate.symbol == symbol]
    if len(named) > 1:
        pairs = ", ".join(sorted(filter(None, named))[:3])
        problems.append(FileProblem("--symbol", f"expected files of {symbol} or of one pair, got files of {pairs} ..."))
        return []
    return candidates


def _label(path: Path, member: zipfile.ZipInfo | None) -> str:
    return str(path) if member is None else f"{path}:{member.filename}"


def _places(path: Path, problems: list[FileProblem], unread: list[str]) -> Iterator[_Candidate]:
    try:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file())
            inside = [file for file in files if file.suffix.lower() in _READABLE]
            if not inside:
                problems.append(FileProblem(str(path), "expected .csv or .zip files in this folder, got none"))
            _sort_out(map(str, files), _READABLE, problems, unread)
            for file in inside:
                yield from _places(file, problems, unread)
        elif path.suffix.lower() == ".zip":
            yield from _members(path, problems, unread)
        else:
            yield _Candidate(path, None, path.stat().st_size)
    except OSError as error:
        problems.append(FileProblem(str(path), f"cannot be read: {error.strerror or error}"))


def _sort_out(labels: Iterable[str], readable: tuple[str, ...], problems: list[FileProblem], unread: list[str]) -> None:
    """Note the files that are not read; archives are a problem, because they may contain candles."""
    for label in labels:
        suffix = PurePosixPath(label).suffix.lower()
        if suffix in _ARCHIVES - set(readable):
            what = f"expected {' or '.join(readable)} files, got a {suffix} archive; not read: unpack it, and import it"
            problems.append(FileProblem(label, what))
        elif suffix not in readable:
            unread.append(label)


def _members(path: Path, problems: list[FileProblem], unread: list[str]) -> Iterator[_Candidate]:
    salvaged = False
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        members, salvaged = whole_members(path), True
        what = f"{len(members)} complete files are imported, everything after them is lost"
        problems.append(FileProblem(str(path), f"expected a whole zip archive, got: {error}; {what}"))
    members = [m for m in members if not m.is_dir() and "__MACOSX" not in m.filename]
    tables = [m for m in members if m.filename.lower().endswith(".csv")]
    _sort_out((_label(path, m) for m in members), (".csv",), problems, unread)
    if not tables and not salvaged:
        problems.append(FileProblem(str(path), "expected .csv files in this archive, got none"))
    for member in sorted(tables, key=lambda m: m.filename):
        yield _Candidate(path, member, member.file_size, checked=salvaged)


def _classified(place: _Candidate, symbol: str | None) -> ArchiveFile | FileProblem:
    """What a file is, by its name and its first rows."""
    label = place.label
    name = _NAME.fullmatch(place.name)
    of_pair = symbol or place.symbol
    if of_pair is None:
        return FileProblem(label, "its name contains no Kraken pair (expected PAIR_INTERVAL.csv); set it with --symbol")
    try:
        with _opened(place.path, place.member) as stream:
            sample = stream.read(_SAMPLE_BYTES)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        return FileProblem(label, f"cannot be read: {getattr(error, 'strerror', None) or error}")
    if not sample.strip():
        return FileProblem(label, f"expected rows of {COLUMNS}, the file is empty")
    if packed := compression_of(sample):
        what = f"expected rows of {COLUMNS}, got {packed}-compressed data: decompress the file first"
        return FileProblem(label, what)
    lines = sample.removeprefix(BYTE_ORDER_MARK).split(b"\n")[: None if len(sample) < _SAMPLE_BYTES else -1]
    try:
        lines = [line for line in lines[is_header(sample.partition(b"\n")[0], label) :] if line.strip()]
    except ArchiveError as error:
        return FileProblem(label, str(error).removeprefix(f"{label}: "))
    if not lines:
        return FileProblem(label, f"expected rows of {COLUMNS}, got none")
    if sum(line.count(b",") == _TRADE_COLUMNS - 1 for line in lines) * 2 > len(lines):
        return ArchiveFile(place.path, place.member, place.size, of_pair, None, _first(lines), place.checked)
    named = int(name["interval"]) if name and name["interval"] else None
    try:
        interval = _interval(label, named, _times(lines))
    except ArchiveError as error:
        return FileProblem(label, str(error).removeprefix(f"{label}: "))
    return ArchiveFile(place.path, place.member, place.size, of_pair, interval, _first(lines), place.checked)


def _interval(label: str, named: int | None, times: list[int]) -> int:
    """The length of a file's candles in minutes, from its name or else its rows. ArchiveError if the two disagree."""
    if not times:
        return named or 1
    seen = interval_of(times)
    if named is None or named == seen:
        return seen
    if named < seen or sum(time % (named * 60) > 0 for time in times) * 2 > len(times):
        raise ArchiveError(f"{label}: expected candles of {named} minutes by its name, got candles of {seen}")
    return named


def _times(lines: Iterable[bytes]) -> list[int]:
    first = (line.partition(b",")[0].strip() for line in lines)
    return [time for time in map(int, filter(bytes.isdigit, first)) if time % 60 == 0 and time < LATEST]


def _first(lines: Iterable[bytes]) -> float:
    """The time of the first line that has one since trading at Kraken began; 0 if there is none."""
    for line in lines:
        try:
            time = float(line.partition(b",")[0])
        except ValueError:
            continue
        if EARLIEST <= time < LATEST:
            return time
    return 0.0


@contextmanager
def _opened(path: Path, member: zipfile.ZipInfo | None) -> Iterator[IO[bytes]]:
    if member is None:
        with path.open("rb") as file:
            yield file
    else:
        with opened_member(path, member) as unpacked:
            yield unpacked
