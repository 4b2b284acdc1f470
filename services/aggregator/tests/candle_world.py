"""A small exchange and a gateway for the core's tests: trades at known instants, and what would be sent of them.

The reference candles are computed from all trades at once, in the plainest way, and share no code with the core.
"""

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

from msgspec.structs import replace

from aggregator.core import Depth, Engine, Output
from ingress_common.model import (
    Candle,
    FeedCondition,
    FeedState,
    History,
    HistoryRequest,
    Range,
    SeedRequest,
    Source,
    Watermark,
)
from ingress_common.timeframes import TIMEFRAMES, Timeframe

SYMBOL = "BTC/USD"
START = 1_700_092_800 - 3 * 3600  # three hours before a week opens, so that runs cross every kind of boundary


@dataclass(frozen=True)
class Trade:
    time: float
    price: Decimal
    volume: Decimal


def random_trades(random: Random, minutes: int, share: float) -> list[Trade]:
    """Trades in about `share` of the minutes after START, and some before it for a price and a history."""
    trades = []
    for minute in range(-30, minutes):
        if random.random() < share or minute == -30:
            for _ in range(random.randint(1, 4)):
                time = START + minute * 60 + random.randint(0, 59_999) / 1000
                trades.append(
                    Trade(time, Decimal(random.randint(900, 1100)) / 10, Decimal(random.randint(1, 500)) / 100)
                )
    return sorted(trades, key=lambda trade: trade.time)


def candle_of(
    trades: list[Trade], timeframe: Timeframe, open_time: int, at: float, source: Source = Source.WS
) -> Candle:
    volume = sum((trade.volume for trade in trades), Decimal(0))
    return Candle(
        symbol=SYMBOL,
        timeframe=timeframe,
        open_time=open_time,
        open=trades[0].price,
        high=max(trade.price for trade in trades),
        low=min(trade.price for trade in trades),
        close=trades[-1].price,
        volume=volume,
        vwap=sum((trade.price * trade.volume for trade in trades), Decimal(0)) / volume,
        trades=len(trades),
        closed=False,
        infilled=False,
        complete=True,
        revision=0,
        source=source,
        at=at,
    )


def price_row(price: Decimal, timeframe: Timeframe, opens: int, at: float) -> Candle:
    """The row of a REST response that gives the price with which its range, which `opens` then, begins."""
    row = candle_of([Trade(0.0, price, Decimal(1))], timeframe, opens - timeframe.seconds, at, Source.REST)
    return replace(row, volume=Decimal(0), trades=0, infilled=True)


Numbers = tuple[Decimal, Decimal, Decimal, Decimal, Decimal, int, bool]


def numbers(candle: Candle) -> Numbers:
    return (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.trades, candle.infilled)


def reference(trades: list[Trade], timeframe: Timeframe, open_time: int) -> Numbers | None:
    """The candle of a window as Kraken would show it: its trades, else flat at the last price before.

    None without any price.
    """
    end = open_time + timeframe.seconds
    inside = [trade for trade in trades if open_time <= trade.time < end]
    if inside:
        return numbers(candle_of(inside, timeframe, open_time, 0.0))
    before = [trade for trade in trades if trade.time < open_time]
    if not before:
        return None
    price = before[-1].price
    return (price, price, price, price, Decimal(0), 0, True)


@dataclass
class World:
    """Runs an engine against the exchange; everything that it published as closed is in `closed`, in order in `log`."""

    trades: list[Trade]
    random: Random
    depth: Depth = field(default_factory=Depth)
    now: float = START + 0.3
    engine: Engine = field(init=False)
    live: bool = False
    since: float = 0.0
    sent: int = 0  # trades before this index have been sent as ticks, or were missed
    ticks: list[Candle] = field(default_factory=list)
    late: list[tuple[float, Candle]] = field(default_factory=list)
    responses: list[tuple[float, History]] = field(default_factory=list)
    requests: list[Output] = field(default_factory=list)
    closed: dict[tuple[Timeframe, int], Candle] = field(default_factory=dict)
    retained: dict[Timeframe, Candle] = field(default_factory=dict)
    log: list[Candle] = field(default_factory=list)
    drops: float | None = None  # share of the updates that the broker drops; None: watermarks state no trades either
    published: dict[int, dict[str, int]] = field(default_factory=dict)
    snapshot_after: float = 0.0  # seconds from a request to its snapshot, in which nothing is traded

    def __post_init__(self) -> None:
        self.times = [trade.time for trade in self.trades]
        self.windows = {timeframe: self._windows(timeframe) for timeframe in TIMEFRAMES}
        self.engine = self.new_engine()
        self.engine.gain([SYMBOL])

    def new_engine(self) -> Engine:
        return Engine(self.depth)

    # --- what the exchange would respond ---

    def _windows(self, timeframe: Timeframe) -> dict[int, list[Trade]]:
        windows = defaultdict(list)
        for trade in self.trades:
            windows[timeframe.floor(trade.time)].append(trade)
        return windows

    def past(self, timeframe: Timeframe, start: float, end: float) -> list[Candle]:
        """The candles that open in `[start, end)` and have traded by now."""
        return [
            candle_of(done, timeframe, open_time, self.now, Source.SNAPSHOT)
            for open_time, trades in self.windows[timeframe].items()
            if start <= open_time < min(end, self.now) and (done := [t for t in trades if t.time < self.now])
        ]

    def snapshot(self, timeframe: Timeframe) -> History:
        rows = self.past(timeframe, self.now - 200 * timeframe.seconds, self.now)[-10:]
        taken = self.now + self.snapshot_after
        start = rows[0].open_time if rows else taken
        return History(SYMBOL, timeframe, Source.SNAPSHOT, Range(start, taken), tuple(rows))

    def rest(self, request: HistoryRequest) -> History:
        end = min(request.range.end, self.now)
        rows = self.past(request.timeframe, request.range.start, request.range.end)
        opens = request.timeframe.floor(request.range.start)
        before = self.trades[: bisect_left(self.times, min(opens, self.now))]
        if before:
            rows.insert(0, price_row(before[-1].price, request.timeframe, opens, self.now))
        return History(SYMBOL, request.timeframe, Source.REST, Range(request.range.start, end), tuple(rows))

    # --- what happens ---

    def take(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Candle):
                newest = self.retained.get(output.timeframe)
                if newest is None or output.open_time >= newest.open_time:
                    self.retained[output.timeframe] = output
                if output.closed:
                    self.closed[output.timeframe, output.open_time] = output
                    self.log.append(output)
            else:
                self.requests.append(output)

    def flush_forming(self) -> list[Candle]:
        forming = self.engine.forming_minutes() + self.engine.forming(list(self.engine.changed))
        for candle in forming:
            self.retained[candle.timeframe] = candle
        return forming

    def connect(self) -> None:
        self.live, self.since = True, self.now
        self.sent = bisect_left(self.times, self.now)
        self.take(self.engine.history(self.snapshot(Timeframe.M1)))
        self.engine.feed_state(self.feed_state(), retained=False)

    def feed_state(self) -> FeedState:
        condition = FeedCondition.LIVE if self.live else FeedCondition.DOWN
        return FeedState("feed", condition, self.since, (SYMBOL,))

    def disconnect(self) -> None:
        self.live = False
        self.engine.feed_state(self.feed_state(), retained=False)

    def restart(self) -> None:
        """Kill the engine and start another: it finds what is retained on the bus."""
        self.engine = self.new_engine()
        self.requests.clear()
        self.responses.clear()
        self.engine.feed_state(self.feed_state(), retained=True)
        self.engine.gain([SYMBOL])
        for candle in self.retained.values():
            self.engine.resume(candle)

    def step(self, seconds: float, *, delays: bool = False) -> None:
        """Let time pass, send what traded, then the watermark, then respond to what is due."""
        self.now += seconds
        updated: dict[int, dict[str, int]] = {}
        if self.live:
            new = self.trades[self.sent : bisect_left(self.times, self.now)]
            for i in range(len(new)):
                minute = Timeframe.M1.floor(new[i].time)
                state = self.trades[bisect_left(self.times, minute) : self.sent + i + 1]
                tick = candle_of(state, Timeframe.M1, minute, self.now)
                self.published[minute] = updated[minute] = {SYMBOL: tick.trades}
                if self.drops and self.random.random() < self.drops:
                    continue
                if delays and self.random.random() < 0.2:
                    self.late.append((self.now + self.random.randint(0, 200), tick))
                else:
                    self.ticks.append(tick)
                    self.take(self.engine.tick(tick))
            self.sent += len(new)
        for due, tick in sorted(self.late, key=lambda item: item[0]):
            if due <= self.now:
                self.late.remove((due, tick))
                self.take(self.engine.tick(tick))
        if self.live:
            over = [minute for minute in self.published if minute + 60 <= self.now - 1]
            trades = {minute: self.published.pop(minute) for minute in over}
            stated = {} if self.drops is None else trades | updated
            self.take(self.engine.watermark(Watermark("feed", self.now - 1, self.now), stated))
        for due, history in list(self.responses):
            if due <= self.now:
                self.responses.remove((due, history))
                self.take(self.engine.history(history))
        requests, self.requests = self.requests, []
        for request in requests:
            if isinstance(request, SeedRequest):
                self.responses += [(self.now + self.random.randint(0, 20), self.snapshot(tf)) for tf in TIMEFRAMES]
            elif isinstance(request, HistoryRequest):
                self.responses.append((self.now + self.random.randint(0, 90), self.rest(request)))
        self.flush_forming()

    def settle(self, minutes: int = 40) -> None:
        """Let the dust settle: everything late arrives, everything requested arrives."""
        if not self.live:
            self.connect()
        for _ in range(minutes * 6):
            self.step(10)
