"""Rows of an archive file that are in a later block than their time belongs to."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

import polars as pl

from crypto_ingress.history.files import ArchiveFile
from crypto_ingress.history.pieces import pieces_of, text_table


@dataclass(slots=True)
class Displacement:
    """What to change in one block: `lines` to add, with their line numbers, and line numbers to leave out."""

    lines: list[tuple[int, bytes]] = field(default_factory=list)
    left_out: set[int] = field(default_factory=set)


def displacements(file: ArchiveFile, latest: float, *, repeated: bool) -> Mapping[int, Displacement]:
    """The displaced lines of `file`, by the number of the block; empty for a file in order.

    A line belongs to the first block that reaches its time. `repeated`: whether a row with the time of an earlier
    block's last row is displaced, too. Rows at `latest` (unix seconds) or later are invalid and reach no time. This
    reads the file once, its times only.
    """
    reached = [-inf]  # by block, the newest time up to its end; a value before the first one
    late: list[tuple[int, int, float, bytes]] = []
    line = 0
    for block, (lines, _) in enumerate(pieces_of(file, lambda _: None)):
        last = reached[-1]
        times = _times(lines)
        if (times <= last).any():
            late += [(block, *each) for each in _late_lines(lines, line + 1, last, repeated=repeated)]
        line += lines.count(b"\n")
        newest = times.filter(times < latest).max()
        reached.append(max(last, newest) if isinstance(newest, float) else last)
    found: dict[int, Displacement] = {}
    for block, number, time, text in late:
        found.setdefault(block, Displacement()).left_out.add(number)
        found.setdefault(bisect_left(reached, time, 1) - 1, Displacement()).lines.append((number, text))
    return found


def numbered(lines: bytes, first: int, displacement: Displacement | None) -> Iterator[tuple[int, bytes]]:
    """The lines of a block with their numbers, from `first` on; those that the displacement adds are last."""
    left_out = displacement.left_out if displacement else ()
    for number, line in enumerate(lines.split(b"\n"), first):
        if number not in left_out:
            yield number, line
    if displacement:
        yield from displacement.lines


def _times(lines: bytes) -> pl.Series:
    """The times in the first column; not those of lines that have none."""
    try:
        return text_table(
            lines,
            columns=[0],
            new_columns=["time"],
            schema_overrides={"time": pl.Float64},
            ignore_errors=True,
            truncate_ragged_lines=True,
        )["time"].drop_nulls()
    except pl.exceptions.PolarsError:
        # Nothing but blank lines, or bytes that are not text.
        return pl.Series([time for _, time, _ in _timed(lines, 0)], dtype=pl.Float64)


def _late_lines(lines: bytes, first: int, last: float, *, repeated: bool) -> Iterator[tuple[int, float, bytes]]:
    for number, time, text in _timed(lines, first):
        if time < last or (repeated and time == last):
            yield number, time, text


def _timed(lines: bytes, first: int) -> Iterator[tuple[int, float, bytes]]:
    """The lines that begin with a time, with their numbers."""
    for number, text in enumerate(lines.split(b"\n"), first):
        try:
            yield number, float(text.partition(b",")[0]), text
        except ValueError:
            continue
