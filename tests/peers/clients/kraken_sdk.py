"""python-kraken-sdk: `SpotWSClient` with its ohlc channel."""

import asyncio
from datetime import datetime

from common import arguments, observed
from kraken.spot import SpotWSClient


async def on_message(message: dict) -> None:
    if message.get("channel") != "ohlc":
        return
    for row in message["data"]:
        time = int(datetime.fromisoformat(row["interval_begin"][:19] + "+00:00").timestamp())
        values = [row[name] for name in ("open", "high", "low", "close", "volume")]
        observed(row["symbol"], time, values, row["trades"])


async def main() -> None:
    asked = arguments()
    client = SpotWSClient(callback=on_message, ws_url=asked.ws.removesuffix("/v2"), rest_url=asked.rest)
    await client.start()
    await client.subscribe(params={"channel": "ohlc", "interval": 1, "symbol": asked.symbols})
    while not client.exception_occur:
        await asyncio.sleep(1)


asyncio.run(main())
