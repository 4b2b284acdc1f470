"""The simulator's truth, its faults, and a follower of what the gateway publishes."""

import asyncio
import time
from decimal import Decimal

import httpx

from ingress_common.model import FeedCondition, FeedState
from ingress_common.timeframes import Timeframe
from ingress_common.times import parse_rfc3339, rfc3339


def frame_of(kind: str, rows: list[dict], stamp: float | None = None) -> str:
    """An ohlc frame as Kraken writes it; numbers given as text go out as they are."""
    items = []
    for row in rows:
        fields = {
            "symbol": f'"{row["symbol"]}"',
            **{name: row.get(name, "100.0") for name in ("open", "high", "low", "close", "vwap")},
            "trades": row.get("trades", 1),
            "volume": row.get("volume", "1.00000000"),
            "interval_begin": f'"{rfc3339(row["begin"])}"',
            "interval": row.get("interval", 1),
        }
        items.append("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}")
    stamp_text = f'"timestamp":"{rfc3339(stamp if stamp is not None else time.time())}",'
    return f'{{"channel":"ohlc","type":"{kind}",{stamp_text}"data":[{",".join(items)}]}}'


HEARTBEAT = '{"channel":"heartbeat"}'


class Follower:
    """Follows what the gateway publishes, as the design defines it: each minute's state, and the settled minutes."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, int], tuple] = {}
        self.settled: dict[str, list[tuple[float, float]]] = {}
        self.feeds: dict[str, FeedState] = {}

    @classmethod
    def of(cls, received: list[tuple[str, object]]) -> "Follower":
        """A follower that has received all of it."""
        follower = cls()
        for kind, item in received:
            follower.receive(kind, item)
        return follower

    def receive(self, kind: str, item) -> None:
        match kind:
            case "raw":
                self._tick(item)
            case "history" if item.timeframe is Timeframe.M1:
                # A row without trades gives a price and no minute.
                for candle in (row for row in item.candles if row.trades):
                    if candle.close_time <= item.covers.end - 1:
                        self.states[candle.symbol, candle.open_time] = _numbers(candle)
                    else:
                        self._tick(candle)
                self.settled.setdefault(item.symbol, []).append((item.covers.start, item.covers.end))
            case "feed":
                self.feeds[item.feed] = item
            case "watermark" if item.feed in self.feeds and self.feeds[item.feed].state is FeedCondition.LIVE:
                feed = self.feeds[item.feed]
                for symbol in feed.symbols:
                    self.settled.setdefault(symbol, []).append((feed.since, item.watermark))

    def _tick(self, candle) -> None:
        key = candle.symbol, candle.open_time
        if key not in self.states or candle.trades >= self.states[key][-1]:
            self.states[key] = _numbers(candle)

    def minutes(self, symbol: str) -> list[int]:
        """The minutes that are settled."""
        spans: list[list[float]] = []
        for start, end in sorted(self.settled.get(symbol, [])):
            if spans and start <= spans[-1][1]:
                spans[-1][1] = max(spans[-1][1], end)
            else:
                spans.append([start, end])
        return [
            minute for start, end in spans for minute in range(Timeframe.M1.ceil(start), Timeframe.M1.floor(end), 60)
        ]


def _numbers(candle) -> tuple:
    return (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.trades)


async def truth_of(simulator, symbol: str, minutes: list[int]) -> dict[int, tuple]:
    async with httpx.AsyncClient(timeout=30.0) as client:
        url = f"{simulator.control_url}/truth/{symbol.replace('/', '-')}"
        response = await client.get(
            url, params={"timeframe": "1m", "from": str(min(minutes)), "to": str(max(minutes) + 60)}
        )
    candles: dict[int, tuple] = {}
    for row in response.json()["candles"]:
        prices = (Decimal(str(row[name])) for name in ("open", "high", "low", "close", "volume"))
        candles[int(parse_rfc3339(row["open_time"]))] = (*prices, row["trades"])
    return candles


async def fault(simulator, **what) -> None:
    async with httpx.AsyncClient(timeout=30.0) as client:
        (await client.post(f"{simulator.control_url}/faults", json=what)).raise_for_status()


def near_a_minutes_end(seconds: float):
    """A clock that differs from ours so that a minute ends in `seconds`: Kraken's clock is not ours."""
    shift = 60 - (time.time() + seconds) % 60
    return lambda: time.time() + shift


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop in which nothing takes time: where all wait, its clock moves on to whoever waits least."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        waiting = [timer._when for timer in self._scheduled if not timer._cancelled]
        if not self._ready and waiting:
            self.now = max(self.now, min(waiting))
        super()._run_once()
