"""ccxt.pro: `watch_ohlcv` of every symbol, as its manual shows it."""

import asyncio
import sys

import ccxt.pro
from common import arguments, kraken_of, observed


async def watch(kraken: ccxt.pro.kraken, symbol: str) -> None:
    while True:
        try:
            for time, *values in await kraken.watch_ohlcv(symbol, "1m"):
                observed(symbol, time // 1_000, values)
        except ccxt.NetworkError as error:
            print(f"{symbol}: {error!r}", file=sys.stderr)
            await asyncio.sleep(1)


async def main() -> None:
    asked = arguments()
    kraken = kraken_of(ccxt.pro.kraken, asked)
    await kraken.load_markets()
    print(f"{len(kraken.markets)} markets", file=sys.stderr)
    await asyncio.gather(*(watch(kraken, symbol) for symbol in asked.symbols))


asyncio.run(main())
