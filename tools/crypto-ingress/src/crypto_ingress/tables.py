"""Output files of `rollup` and `export`: each gets its name only when it is complete."""

import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ingress_common.candle_csv import HEADER

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class OutputError(Exception):
    """A file cannot be written. The text names it."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path that is renamed to `path` at the end and removed on any error.

    A link stays: the file that it leads to is replaced. OutputError if that fails, or if there is something other than
    a file, such as a device or a pipe, which the new name would replace.
    """
    target = _target(path)
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(target)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from None
    finally:
        # The error that prevented the file has been raised already.
        with suppress(OSError):
            part.unlink()


def _target(path: Path) -> Path:
    """The file that `path` names, at the end of links. OutputError if there is something other than a regular file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path.resolve()
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from None
    if not stat.S_ISREG(mode):
        found = _KINDS.get(stat.S_IFMT(mode), "a device")
        raise _unwritable(path, f"expected a regular file or a new name, got {found}")
    return path.resolve()


def _unwritable(path: Path, reason: str) -> OutputError:
    return OutputError(f"{path}: cannot be written: {reason}")


@contextmanager
def csv_files(paths: Mapping[str, Path]) -> Iterator[dict[str, BinaryIO]]:
    """Open CSV files with the header line, by the keys of `paths`. OutputError if one cannot be written."""
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for key, path in paths.items():
            part = stack.enter_context(whole_file(path))
            files[key] = stack.enter_context(part.open("wb"))
            files[key].write(HEADER.encode())
        yield files
