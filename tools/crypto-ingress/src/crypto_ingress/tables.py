"""The CSV files that `rollup` and `export` write."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ingress_common.model import Candle

HEADER = "time,open,high,low,close,volume,vwap,trades,infilled"


class OutputError(Exception):
    """A file that cannot be written; the text names it."""


@contextmanager
def candle_table(path: Path) -> Iterator[Callable[[Candle], None]]:
    """A file of candles, one row each: unix seconds, plain decimals, `infilled` 0 or 1.

    It appears under its name once it is whole.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="ascii", newline="") as file:
            file.write(HEADER + "\n")

            def write(c: Candle) -> None:
                file.write(
                    f"{c.open_time},{c.open:f},{c.high:f},{c.low:f},{c.close:f},{c.volume:f},{c.vwap:f},{c.trades},{c.infilled:d}\n"
                )

            yield write
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        # Where no file can be there is none to remove, and that has been said.
        with suppress(OSError):
            part.unlink()
