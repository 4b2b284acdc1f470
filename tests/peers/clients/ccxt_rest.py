"""ccxt: `fetch_ohlcv` of every symbol every five seconds."""

import asyncio
import sys

import ccxt.async_support as ccxt
from common import arguments, kraken_of, observed

_EVERY = 5
_ROWS = 10


async def poll(kraken: ccxt.kraken, symbol: str) -> None:
    while True:
        try:
            for time, *values in (await kraken.fetch_ohlcv(symbol, "1m"))[-_ROWS:]:
                observed(symbol, time // 1_000, values)
        except ccxt.BaseError as error:
            print(f"{symbol}: {error!r}", file=sys.stderr)
        await asyncio.sleep(_EVERY)


async def main() -> None:
    asked = arguments()
    kraken = kraken_of(ccxt.kraken, asked)
    await kraken.load_markets()
    await asyncio.gather(*(poll(kraken, symbol) for symbol in asked.symbols))


asyncio.run(main())
