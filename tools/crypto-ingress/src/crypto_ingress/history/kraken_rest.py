"""Kraken's REST API for the command line."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
import polars as pl
from prometheus_client import CollectorRegistry

from crypto_ingress.errors import CommandError
from crypto_ingress.history.stored import SCHEMA
from crypto_ingress.history.verifying import KrakenCandles
from ingress_common.backoff import Backoff
from ingress_common.decimals import plain
from ingress_common.timeframes import Timeframe
from ingress_common.tls import TlsFiles
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.rest import KrakenRest, Pair, RestError, UnknownPairError
from kraken_gateway.metrics import GatewayMetrics

ResultT = TypeVar("ResultT")

_TRIES = 5
_BACKOFF = Backoff(1.0, 8.0)
_COLUMNS = ("time", "open", "high", "low", "close", "volume", "vwap", "trades")


@asynccontextmanager
async def kraken_rest(url: str, tls: TlsFiles) -> AsyncIterator[KrakenRest]:
    """A client of Kraken's REST API at `url` that keeps to its rate limit."""
    async with httpx.AsyncClient(verify=tls.client_context()) as client:
        yield KrakenRest(url, client, GatewayMetrics(CollectorRegistry()), KrakenClock(time.time))


async def with_retries(call: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """The result of `call`, with up to 5 tries and exponential backoff. CommandError if all fail."""
    for attempt in range(_TRIES):
        try:
            return await call()
        except UnknownPairError as error:
            raise CommandError(f"Kraken: {error}") from None
        except RestError as error:
            if attempt == _TRIES - 1:
                raise CommandError(f"Kraken: {error}") from None
            await asyncio.sleep(_BACKOFF.pause(attempt))
    raise AssertionError("unreachable")


def last_candles(rest: KrakenRest, pairs: dict[str, Pair]) -> KrakenCandles:
    """A function that requests the last 720 closed candles of a symbol and timeframe.

    It raises CommandError if Kraken does not respond or does not know the symbol.
    """

    async def candles(symbol: str, timeframe: Timeframe) -> pl.DataFrame:
        if symbol not in pairs:
            raise CommandError(f"{symbol}: Kraken's AssetPairs has no such pair")
        rows = await with_retries(lambda: rest.ohlc(pairs[symbol], timeframe, 0))
        return pl.DataFrame(
            [
                (
                    row.open_time,
                    *map(plain, (row.open, row.high, row.low, row.close, row.volume)),
                    plain(row.vwap if row.trades else row.close),
                    row.trades,
                )
                for row in rows[:-1]
            ],
            schema={name: SCHEMA[name] for name in _COLUMNS},
            orient="row",
        )

    return candles
