"""ccxt.pro as a user runs it: `watch_ohlcv` of every market. Arguments: the addresses of websocket and REST.

Prints "ready" once each market was updated; then, for each line that it reads, the number of updates so far.
"""

import argparse
import asyncio
import sys

import ccxt.pro
from common import kraken_of


class Updates:
    """Counts the updates of `symbols`."""

    def __init__(self, symbols: list[str]) -> None:
        self.count = 0
        self._awaited = set(symbols)

    async def watch(self, kraken: ccxt.pro.kraken, symbol: str) -> None:
        """Follow a symbol for good."""
        while True:
            await kraken.watch_ohlcv(symbol, "1m")
            self.count += 1
            if symbol in self._awaited:
                self._awaited.remove(symbol)
                if not self._awaited:
                    print("ready", flush=True)


async def main(ws: str, rest: str) -> None:
    """Follow all markets; answer each line of the standard input."""
    kraken = kraken_of(ccxt.pro.kraken, argparse.Namespace(ws=ws, rest=rest))
    symbols = list(await kraken.load_markets())
    updates = Updates(symbols)
    asyncio.get_running_loop().add_reader(sys.stdin, lambda: sys.stdin.readline() and print(updates.count, flush=True))
    await asyncio.gather(*(updates.watch(kraken, symbol) for symbol in symbols))


asyncio.run(main(*sys.argv[1:]))
