"""The live display of `run` and `demo`: a table of all symbols in a terminal, otherwise a line every few seconds."""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ingress_common.bus import Bus, Message
from ingress_common.decimals import plain
from ingress_common.model import Candle, FeedCondition, FeedState
from ingress_common.payloads import PayloadError, decode_candle, decode_feed_state
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import Topics

_ROWS = 15
_LINE_SECONDS = 10.0
_FIRST_LINES_SECONDS = 2.0
_HINT_SECONDS = 8.0


@dataclass(slots=True)
class LiveDisplay:
    """Subscribes to candles and feeds on the bus and shows them.

    `kraken`: Kraken's address, for a hint if it cannot be reached; None for the simulator.
    """

    bus: Bus
    topics: Topics
    kraken: str | None
    console: Console
    _candles: dict[tuple[str, Timeframe], Candle] = field(default_factory=dict)
    _closed: Counter[Timeframe] = field(default_factory=Counter)
    _feeds: dict[str, FeedState] = field(default_factory=dict)

    async def run(self) -> None:
        """Show the display until cancelled."""
        async with self.bus, asyncio.TaskGroup() as tasks:
            await self.bus.subscribe(self.topics.candles("+", "+"), self.topics.feed("+"))
            tasks.create_task(self._follow(), name="live.follow")
            tasks.create_task(self._screen() if self.console.is_terminal else self._lines(), name="live.show")

    async def _follow(self) -> None:
        async for event in self.bus.events():
            if isinstance(event, Message):
                # The services count and dead-letter malformed payloads.
                with suppress(PayloadError):
                    self._take(event)
                event.ack()

    def _take(self, message: Message) -> None:
        match self.topics.split(message.topic):
            case ("candles", *_):
                candle = decode_candle(message.payload)
                self._candles[candle.symbol, candle.timeframe] = candle
                if candle.closed and not message.retain:
                    self._closed[candle.timeframe] += 1
            case ("feed", _, _):
                state = decode_feed_state(message.payload)
                self._feeds[state.feed] = state

    async def _screen(self) -> None:
        started = _now()
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            while True:
                live.update(Group(self._table(), self._foot(_now() - started)))
                await asyncio.sleep(0.25)

    async def _lines(self) -> None:
        started = _now()
        while True:
            await asyncio.sleep(_LINE_SECONDS if self._closed else _FIRST_LINES_SECONDS)
            self.console.print(self._foot(_now() - started), soft_wrap=True)

    def _table(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        table.add_column("symbol")
        table.add_column("price", justify="right")
        for timeframe in TIMEFRAMES:
            table.add_column(timeframe.value, justify="right")
        symbols = sorted({symbol for symbol, _ in self._candles})
        for symbol in symbols[:_ROWS]:
            now = self._candles.get((symbol, Timeframe.M1))
            table.add_row(symbol, plain(now.close) if now else "", *(self._cell(symbol, tf) for tf in TIMEFRAMES))
        if len(symbols) > _ROWS:
            table.add_row(f"and {len(symbols) - _ROWS} more")
        return table

    def _cell(self, symbol: str, timeframe: Timeframe) -> Text:
        """The price change within the current window; dim if nothing has traded in it."""
        candle = self._candles.get((symbol, timeframe))
        if candle is None:
            return Text("")
        if candle.infilled:
            return Text("no trades", style="dim")
        change = (candle.close - candle.open) / candle.open * 100 if candle.open else candle.open
        return Text(f"{change:+.2f} %", style="green" if change >= 0 else "red")

    def _foot(self, seconds: float) -> Text:
        live = [feed for feed in self._feeds.values() if feed.state is FeedCondition.LIVE]
        rejected = {symbol: why for feed in self._feeds.values() for symbol, why in feed.rejected.items()}
        newest = max((c.open_time for (_, tf), c in self._candles.items() if tf is Timeframe.M1), default=None)
        text = Text()
        if live:
            text.append(f"live: {sum(len(feed.symbols) for feed in live)} symbols on {len(live)} feeds", style="green")
        else:
            text.append("no feed is live", style="yellow")
            if seconds > _HINT_SECONDS and self.kraken is not None and not rejected:
                text.append(f" - cannot reach Kraken at {self.kraken}: check the internet connection")
                text.append(" (crypto-ingress demo needs none)")
        closed = ", ".join(f"{count} of {tf.value}" for tf in TIMEFRAMES if (count := self._closed[tf]))
        text.append(f"; closed candles: {closed or 'none yet'}")
        if newest is not None:
            text.append(f"; minute {rfc3339(newest)}")
        for symbol, why in sorted(rejected.items()):
            text.append(f"\nKraken refuses {symbol}: {why}", style="yellow")
        return text


def _now() -> float:
    return asyncio.get_running_loop().time()
