"""How the cost grows with the number of pairs: a stack of each size under two rates, and what a symbol and a tick cost.

`PYTHONPATH=tests .venv/bin/python -m load.growth` prints a table and a plot in Markdown.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.kraken import Kraken
from load.processes import Shape, Stack
from load.readiness import ready

TICKS_PER_SYMBOL = 0.345
"""Ticks a second of the average symbol: 500 over 1,449 pairs."""

_LIMIT_SECONDS = 900
_FASTER = 2
_PREPARE_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Size:
    """The measurements of one size: seconds until `/health` was 200, and cores of the four services at each rate.

    `cores` belongs to `TICKS_PER_SYMBOL`, `faster` to twice that.
    """

    pairs: int
    green: float
    cores: float
    faster: float

    @property
    def ticks(self) -> float:
        """Ticks a second at the lower rate."""
        return self.pairs * TICKS_PER_SYMBOL

    @property
    def tick_cost(self) -> float:
        """CPU seconds of one tick more."""
        return (self.faster - self.cores) / (self.ticks * (_FASTER - 1))


def table(sizes: Sequence[Size]) -> list[str]:
    """The sizes as a Markdown table; the first size is the base, at which the services cost next to nothing more than
    their start.
    """
    base = sizes[0]
    lines = [
        "| pairs | green after | ticks/s | cores | at twice the ticks | us a tick | ms a symbol-minute |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        symbol = (size.cores - base.cores) / (size.pairs - base.pairs) * 60e3 if size is not base else None
        lines.append(
            f"| {size.pairs:,} | {size.green:.0f} s | {size.ticks:.1f} | {size.cores:.3f} | {size.faster:.3f} "
            f"| {size.tick_cost * 1e6:.0f} | {'the base' if symbol is None else f'{symbol:.1f}'} |"
        )
    return lines


def plot(sizes: Sequence[Size]) -> list[str]:
    """The cores of both rates over the pairs as a Mermaid chart."""
    pairs = ", ".join(f'"{size.pairs:,}"' for size in sizes)
    cores = ", ".join(f"{size.cores:.3f}" for size in sizes)
    faster = ", ".join(f"{size.faster:.3f}" for size in sizes)
    return [
        "```mermaid",
        "xychart-beta",
        '    title "Cores of the four services, at 0.345 and 0.69 ticks a second and symbol"',
        f'    x-axis "pairs" [{pairs}]',
        '    y-axis "cores"',
        f"    line [{cores}]",
        f"    line [{faster}]",
        "```",
    ]


def main() -> None:
    """Measure the sizes of the command line, smallest first."""
    parser = argparse.ArgumentParser(prog="load.growth", description=__doc__)
    parser.add_argument("--pairs", default="10,100,500,1449,3000,5000", help="sizes")
    parser.add_argument("--seconds", type=float, default=120, help="how long each rate is measured; whole minutes")
    options = parser.parse_args()
    sizes = []
    for pairs in sorted(int(size) for size in options.pairs.split(",")):
        sizes.append(_measured(pairs, options.seconds))
        print(sizes[-1], flush=True)
    print("\n".join([*table(sizes), "", *plot(sizes)]))


def _measured(pairs: int, seconds: float) -> Size:
    folder = Path(tempfile.mkdtemp(prefix=f"growth-{pairs}-"))
    stack = Stack(folder, Shape(pairs, pairs * TICKS_PER_SYMBOL))
    try:
        stack.start()
        return asyncio.run(_rates(stack, seconds))
    finally:
        stack.stop()


async def _rates(stack: Stack, seconds: float) -> Size:
    kraken = Kraken(f"http://127.0.0.1:{stack.control_port}")
    try:
        green = (await ready(stack, _LIMIT_SECONDS)).green
        cores = []
        for times in (1, _FASTER):
            rate = stack.shape.rate * times
            await kraken.set_rate(rate, _PREPARE_SECONDS + seconds + 1)
            await asyncio.sleep(_PREPARE_SECONDS)
            cores.append(await _cores(stack, seconds))
    finally:
        await kraken.close()
    return Size(stack.shape.pairs, green, *cores)


async def _cores(stack: Stack, seconds: float) -> float:
    """CPU of the services a second of `seconds`."""
    before, began = stack.usage(), time.monotonic()
    await asyncio.sleep(seconds)
    after, passed = stack.usage(), time.monotonic() - began
    names = [part.name for part in stack.services]
    return sum(after[name].cpu - before[name].cpu for name in names) / passed


if __name__ == "__main__":
    main()
