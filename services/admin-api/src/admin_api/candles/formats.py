"""Candles for bulk reads: the columns of `crypto-ingress export`, as CSV, an Arrow stream or a Parquet file.

CSV and Arrow are made of parts that follow each other, a head and any number of pages, so that a long range never has
to be in memory as a whole.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from ingress_common.candle_csv import HEADER, csv_row
from ingress_common.model import Candle

ARROW_MEDIA_TYPE = "application/vnd.apache.arrow.stream"
PARQUET_MEDIA_TYPE = "application/vnd.apache.parquet"


class Format(Protocol):
    """How candles are written."""

    media_type: str
    suffix: str

    def head(self) -> bytes:
        """What comes first."""
        ...

    def page(self, candles: Sequence[Candle]) -> bytes:
        """Some candles."""
        ...

    def tail(self) -> bytes:
        """What comes last."""
        ...


class Csv:
    """A header and a row for each candle; prices and volumes with their exact decimals."""

    media_type = "text/csv; charset=utf-8; header=present"
    suffix = "csv"

    def head(self) -> bytes:
        """The header."""
        return HEADER.encode()

    def page(self, candles: Sequence[Candle]) -> bytes:
        """A row for each."""
        return "".join(map(csv_row, candles)).encode()

    def tail(self) -> bytes:
        """Nothing."""
        return b""


class Numbers(StrEnum):
    """What prices and volumes are in Arrow and Parquet."""

    FLOAT = "float"
    DECIMAL = "decimal"
