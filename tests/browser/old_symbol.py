"""A symbol whose past is known: what a live market does only now and then is all in it."""

from decimal import Decimal
from pathlib import Path

from msgspec.structs import replace

from example import CANDLE
from ingress_common.model import Source
from ingress_common.timeframes import Timeframe
from ingress_store import SqliteStore

OLD = "OLD/USD"
OLD_START = 1_708_819_200  # 2024-02-25T00:00:00Z
OLD_MINUTES = 1_300
OLD_HOLE = range(1_250, 1_256)
OLD_INCOMPLETE = 1_271


async def write_old_candles(path: Path) -> None:
    """Minutes of OLD/USD: every seventh has no trades, one is incomplete, a few are missing."""
    candles, close = [], Decimal("100.0")
    for minute in range(OLD_MINUTES):
        if minute in OLD_HOLE:
            continue
        open_time = OLD_START + 60 * minute
        plain = replace(CANDLE, symbol=OLD, timeframe=Timeframe.M1, open_time=open_time, at=open_time + 61.0)
        if minute % 7 == 3:
            flat = dict.fromkeys(("open", "high", "low", "close", "vwap"), close)
            quiet = {"volume": Decimal(0), "trades": 0, "infilled": True, "source": Source.INFILL}
            candles.append(replace(plain, **flat, **quiet))
            continue
        price, close = close, close + Decimal(minute % 5 - 2) / 10
        candles.append(
            replace(
                plain,
                open=price,
                high=max(price, close) + Decimal("0.1"),
                low=min(price, close) - Decimal("0.1"),
                close=close,
                vwap=price,
                volume=Decimal("1.50000000"),
                trades=4,
                complete=minute != OLD_INCOMPLETE,
                source=Source.WS,
            )
        )
    async with SqliteStore(path) as store:
        await store.bootstrap()
        await store.write(candles, [])
