"""Output files of `rollup` and `export`: each gets its name only when it is complete."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ingress_common.candle_csv import HEADER


class OutputError(Exception):
    """A file cannot be written. The text names it."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path that is renamed to `path` at the end and removed on any error. OutputError if that fails."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        # The error that prevented the file has been raised already.
        with suppress(OSError):
            part.unlink()


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
