"""ccxt.pro: `watch_trades` of every symbol, and ccxt's own `build_ohlcvc` for the candles."""

import asyncio
import sys

import ccxt.pro
from common import arguments, kraken_of, observed


async def watch(kraken: ccxt.pro.kraken, symbol: str) -> None:
    trades = {}
    while True:
        try:
            for trade in await kraken.watch_trades(symbol):
                trades[trade["id"]] = trade
        except ccxt.NetworkError as error:
            print(f"{symbol}: {error!r}", file=sys.stderr)
            await asyncio.sleep(1)
            continue
        ordered = sorted(trades.values(), key=lambda trade: (trade["timestamp"], int(trade["id"])))
        for time, *values, count in kraken.build_ohlcvc(ordered, "1m", 0, 10_000):
            observed(symbol, time // 1_000, values, count)


async def main() -> None:
    asked = arguments()
    kraken = kraken_of(ccxt.pro.kraken, asked)
    kraken.newUpdates = True
    await asyncio.gather(*(watch(kraken, symbol) for symbol in asked.symbols))


asyncio.run(main())
