"""Forming candles in the store that nobody will close."""

from admin_api.reconciler.leftovers import LATE_SECONDS
from admin_api.system.wanted import unfollowed
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_store import SqliteStore

LEFT, LIVE = "LEFT/USD", "BTC/USD"
H1, H4 = Timeframe.H1, Timeframe.H4


async def test_leftover_forming_candle_is_removed_after_its_window(world, candle):
    opens = H1.floor(world.now)
    none = {"trades": 0, "infilled": True, "closed": False}
    closed = candle(symbol=LEFT, timeframe=H1, open_time=opens - 3600)
    rows = [
        closed,
        candle(symbol=LEFT, timeframe=H1, open_time=opens, **none),
        candle(symbol=LEFT, timeframe=H4, open_time=H4.floor(opens), closed=False),
        candle(symbol=LIVE, timeframe=H1, open_time=opens, **none),
    ]
    async with world.running() as _, SqliteStore(world.path, clock=lambda: world.now) as store:
        await store.write(rows, [])
        leftovers = world.service.reconciler._leftovers

        async def forming():
            return {(s, tf) for s in (LEFT, LIVE) for tf in (H1, H4) if await store.forming(s, tf)}

        async def look():
            since = {LIVE: rfc3339(world.now)}
            await world.status("kraken-gateway", "g", patterns=["*/USD"], owned_since=since)
            await world.until(lambda: unfollowed(world.service.state, world.now, (LEFT, LIVE)) == [LEFT])
            await leftovers.look()

        # No gateway has reported its symbols yet, and then the window may still be closed.
        await leftovers.look()
        world.now = opens + 3600 + LATE_SECONDS - 1
        await look()
        assert await forming() == {(LEFT, H1), (LEFT, H4), (LIVE, H1)}
        world.now += 2
        await look()
        assert await forming() == {(LEFT, H4), (LIVE, H1)}
        assert await store.candles(LEFT, H1, limit=10) == [closed]
