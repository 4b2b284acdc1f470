"""Whatever happens to the pairs: what followers were sent, REST and the truth agree at the end."""

import json
from collections.abc import Collection
from decimal import Decimal
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kraken_simulator.config import SimulatorConfig
from kraken_simulator.exchange import Exchange
from kraken_simulator.faults import PAIR_STATUSES, FaultRequest
from kraken_simulator.feeds import Topic
from kraken_simulator.listeners import Ending
from kraken_simulator.market import Market
from kraken_simulator.profiles import profile_of
from kraken_simulator.rest.history import ohlc_json
from kraken_simulator.sources.synthetic import SyntheticSource, sparse_history
from kraken_simulator.stats import Stats
from kraken_simulator.truth import true_candles

from .conftest import MINUTE_START, ManualClock

PRICES = ("open", "high", "low", "close")


class Follower:
    """A listener that follows the 1m candles of everything and keeps the last state of each."""

    def __init__(self) -> None:
        self.number, self.hung = 0, False
        self.topics: Collection[Topic] = set()
        self.instruments = frozenset({"currency"})
        self.candles: dict[tuple[str, str], tuple[Any, ...]] = {}
        self.statuses: dict[str, str] = {}

    def follows(self, symbol: str) -> bool:
        return any(topic.symbol == symbol for topic in self.topics)

    def send_data(self, text: str) -> None:
        frame = json.loads(text, parse_float=Decimal)
        if frame["channel"] == "ohlc":
            for row in frame["data"]:
                values = (*(row[name] for name in PRICES), row["volume"], row["trades"])
                self.candles[row["symbol"], row["interval_begin"][:19]] = values
        else:
            self.statuses |= {pair["symbol"]: pair["status"] for pair in frame["data"]["pairs"]}

    def end(self, how: Ending) -> None:
        raise AssertionError(how)


class World:
    """An exchange of two pairs, and a follower of every pair that there is."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        epoch = int(MINUTE_START)
        markets = {
            symbol: Market(
                SyntheticSource(profile_of(symbol), seed=1, epoch=epoch, history=sparse_history(1), pace=pace)
            )
            for symbol, pace in (("BTC/USD", 0.2), ("ADA/EUR", 8.0))
        }
        self.exchange = Exchange(markets, SimulatorConfig(), self.clock, Stats())
        self.exchange.open_for_trading(past_at_once=False)
        self.follower = Follower()
        self.exchange.connect(self.follower)
        self.names = (f"N{number}/USD" for number in count())
        self.gone: set[str] = set()
        self.follow_all()

    def follow_all(self) -> None:
        for symbol in self.exchange.markets:
            topic = Topic("ohlc", symbol, 1)
            if self.exchange.directory.is_listed(symbol) and topic not in self.follower.topics:
                self.follower.topics.add(topic)
                self.exchange.publisher.subscribe(self.follower, topic, self.exchange.now())
                self.exchange.publisher.send_snapshot(self.follower, topic, self.exchange.now())

    def move(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
            self.exchange.step()

    def change(self, request: FaultRequest) -> None:
        self.exchange.start_fault(request)
        self.follow_all()

    def truth(self, symbol: str) -> dict[str, tuple[Any, ...]]:
        market, until = self.exchange.directory.truth_of(symbol)
        candles = true_candles(market.digits.scale, market.true_trades(int(MINUTE_START) * 10**9, until), 60)
        return {
            row["open_time"][:19]: (
                *(Decimal(row[name]) for name in PRICES),
                Decimal(row["volume"]),
                row["trades"],
            )
            for row in candles
        }


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, dict[str, Any], float, bool]:
    kind = draw(st.sampled_from(["list", "delist", "relist", "rename", "reprecision", "status", "wait"]))
    more: dict[str, Any] = {}
    if kind == "status":
        more["status"] = draw(st.sampled_from(PAIR_STATUSES))
    if kind == "reprecision":
        more = {"price_decimals": draw(st.integers(0, 9)), "qty_decimals": draw(st.integers(2, 8))}
    if kind == "list":
        more = {"trades_per_minute": draw(st.sampled_from([2.0, 60.0])), "qty_decimals": draw(st.integers(2, 8))}
    return kind, more, draw(st.floats(0.5, 100)), draw(st.booleans())


@settings(max_examples=40, deadline=None)
@given(st.lists(changes(), max_size=8))
def test_followers_rest_and_truth_agree_after_any_life_of_the_pairs(
    script: list[tuple[str, dict[str, Any], float, bool]],
) -> None:
    world = World()
    for kind, more, seconds, first in script:
        listed = [symbol for symbol in world.exchange.markets if world.exchange.directory.is_listed(symbol)]
        away = [symbol for symbol in world.exchange.markets if symbol not in listed]
        if kind == "list":
            world.change(FaultRequest("list", next(world.names), **more))
        elif kind == "relist" and away:
            world.change(FaultRequest("list", away[0]))
        elif kind == "rename" and listed:
            world.change(FaultRequest("rename", listed[0 if first else -1], to=next(world.names)))
        elif kind in ("delist", "reprecision", "status") and listed:
            world.change(FaultRequest(kind, listed[0 if first else -1], **more))
        world.move(seconds)
    sent: dict[str, dict[str, tuple[Any, ...]]] = {}
    for (symbol, begin), values in world.follower.candles.items():
        if begin >= "2023-11-14T22:14":
            sent.setdefault(symbol, {})[begin] = values
    for topic in world.follower.topics:
        assert sent.get(topic.symbol, {}) == world.truth(topic.symbol)
    for symbol, market in world.exchange.markets.items():
        status = world.exchange.directory.status_of(market)
        assert world.follower.statuses.get(symbol, "online") == status
        if status != "delisted":
            assert _rest(market, int(world.clock.now)) == list(world.truth(symbol).values())


def _rest(market: Market, now: int) -> list[tuple[Any, ...]]:
    rows = json.loads(ohlc_json(market, "X", 1, now, int(MINUTE_START) - 1))["result"]["X"]
    return [(*(Decimal(text) for text in row[1:5]), Decimal(row[6]), row[7]) for row in rows if row[7]]
