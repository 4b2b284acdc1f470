"""Formats of bulk reads: the columns of `crypto-ingress export`, as CSV, an Arrow stream or a Parquet file.

CSV and Arrow consist of a head, any number of pages, and a tail, so that a long range need not be in memory as a whole.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from ingress_common.candle_csv import HEADER, csv_row
from ingress_common.model import Candle

ARROW_MEDIA_TYPE = "application/vnd.apache.arrow.stream"
PARQUET_MEDIA_TYPE = "application/vnd.apache.parquet"


class Format(Protocol):
    """A format that is written page by page."""

    media_type: str
    suffix: str

    def head(self) -> bytes:
        """The bytes before the first page."""
        ...

    def page(self, candles: Sequence[Candle]) -> bytes:
        """The bytes of a page of candles."""
        ...

    def tail(self) -> bytes:
        """The bytes after the last page."""
        ...


class Csv:
    """A header and a row for each candle; prices and volumes with their exact decimals."""

    media_type = "text/csv; charset=utf-8; header=present"
    suffix = "csv"

    def head(self) -> bytes:
        """The header row."""
        return HEADER.encode()

    def page(self, candles: Sequence[Candle]) -> bytes:
        """A row for each candle."""
        return "".join(map(csv_row, candles)).encode()

    def tail(self) -> bytes:
        """Empty: CSV has no tail."""
        return b""


class Numbers(StrEnum):
    """The type of prices and volumes in Arrow and Parquet."""

    FLOAT = "float"
    DECIMAL = "decimal"
