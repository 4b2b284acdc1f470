"""When a symbol has ended, and how its last windows close."""

from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from aggregator.core import Engine
from aggregator.endings import LAST_SECONDS, UNOWNED_SECONDS, Endings, Following, Standing
from ingress_common.model import (
    GRACE,
    Candle,
    FeedCondition,
    FeedState,
    History,
    InstanceState,
    Range,
    Source,
    Status,
    Watermark,
)
from ingress_common.timeframes import TIMEFRAMES, Timeframe

OPEN = 1_700_092_800


def gateway(
    following: Following, name: str = "g", state: InstanceState = InstanceState.ONLINE, **details: object
) -> None:
    following.status(Status("kraken-gateway", name, state, "1", 0.0, details))


def lasting(following: Following, seconds: float, symbol: str = "OLD/USD") -> Standing:
    """How it stands after it has stood so for `seconds`."""
    following.standing(symbol, (), 100.0)
    return following.standing(symbol, (), 100.0 + seconds)


def test_symbol_is_carried_while_a_live_feed_has_it_whatever_others_publish():
    following = Following()
    following.feed(FeedState("f", FeedCondition.LIVE, 0.0, (), {"OLD/USD": "delisted"}))
    assert following.standing("OLD/USD", {"OLD/USD"}, 0.0) is Standing.CARRIED


def test_rejected_symbol_has_ended_after_the_time_for_last_updates():
    following = Following()
    following.feed(FeedState("f", FeedCondition.LIVE, 0.0, (), {"OLD/USD": "delisted"}))
    assert lasting(following, LAST_SECONDS - 1) is Standing.UNKNOWN
    assert lasting(following, LAST_SECONDS) is Standing.ENDED
    following.forget("f")
    assert lasting(following, 1e6) is Standing.UNKNOWN


@pytest.mark.parametrize(
    ("patterns", "seconds", "standing"),
    [
        (["*/EUR"], LAST_SECONDS, Standing.LEFT),
        (["*/EUR"], LAST_SECONDS - 1, Standing.UNKNOWN),
        (["*/USD"], UNOWNED_SECONDS, Standing.ENDED),
        (["*/USD"], UNOWNED_SECONDS - 1, Standing.UNKNOWN),
        ([], 1e6, Standing.UNKNOWN),
    ],
)
def test_unowned_symbol_has_left_or_ended_by_the_patterns_of_the_gateways(patterns, seconds, standing):
    following = Following()
    gateway(following, patterns=patterns, owned_since={"BTC/USD": "2024-01-01T00:00:00Z"})
    assert lasting(following, seconds) is standing


def test_symbol_stands_unknown_while_a_gateway_may_carry_it():
    following = Following()
    assert lasting(following, 1e6) is Standing.UNKNOWN
    gateway(following, patterns=["*/USD"], owned_since={"OLD/USD": "2024-01-01T00:00:00Z"})
    assert lasting(following, 1e6) is Standing.UNKNOWN
    gateway(following, patterns=["*/EUR"], owned_since={})
    gateway(following, "other", patterns=[])
    assert lasting(following, 1e6) is Standing.UNKNOWN
    gateway(following, "other", InstanceState.OFFLINE)
    assert lasting(following, 1e6) is Standing.LEFT


def test_kraken_time_is_the_latest_that_a_gateway_has_reported():
    following = Following()
    assert following.kraken_time == float("-inf")
    gateway(following, kraken_time="2024-01-01T00:00:05Z")
    gateway(following, "other", kraken_time="2024-01-01T00:00:03Z")
    gateway(following, "strange", kraken_time=7)
    assert following.kraken_time == 1704067205.0


def candle(timeframe: Timeframe, open_time: int, *, trades: int = 3, symbol: str = "OLD/USD") -> Candle:
    p = Decimal("100.0")
    return Candle(
        symbol, timeframe, open_time, p, p, p, p, Decimal(trades), p, trades,
        closed=False, infilled=False, complete=True, revision=0, source=Source.WS, at=float(open_time),
    )  # fmt: skip


def test_last_window_closes_as_it_was_when_it_is_over():
    endings = Endings()
    for timeframe in (Timeframe.M5, Timeframe.M1):
        endings.add(candle(timeframe, OPEN))
    assert endings.of("OLD/USD") == (Timeframe.M1, Timeframe.M5)
    assert endings.due("OLD/USD", OPEN + 60.0) == []
    (minute,) = endings.due("OLD/USD", OPEN + 60.0 + GRACE)
    assert (minute.closed, minute.trades, minute.open_time) == (True, 3, OPEN)
    assert len(endings.due("OLD/USD", OPEN + 1e6)) == 2
    for timeframe in (Timeframe.M1, Timeframe.M5):
        endings.remove("OLD/USD", timeframe)
    assert endings.symbols == frozenset()


@dataclass
class Seeded:
    """An engine with one symbol that was seeded a minute ago and covered until `until`."""

    until: float
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        self.engine.feed_state(FeedState("f", FeedCondition.LIVE, OPEN - 30.0, ("OLD/USD", "BTC/USD")), retained=False)
        self.engine.gain(["OLD/USD"])
        for timeframe in TIMEFRAMES:
            first = timeframe.floor(OPEN) - timeframe.seconds
            rows = (candle(timeframe, first),)
            covers = Range(first, OPEN + 2.0)
            self.engine.history(History("OLD/USD", timeframe, Source.SNAPSHOT, covers, rows))
        for instant in range(OPEN, int(self.until) + 1):
            self.engine.watermark(Watermark("f", float(instant), float(instant)))

    def leave(self) -> None:
        self.engine.feed_state(FeedState("f", FeedCondition.LIVE, OPEN - 30.0, ("BTC/USD",)), retained=False)


def test_end_of_a_symbol_closes_ended_windows_and_returns_open_ones():
    seeded = Seeded(until=OPEN + 59)
    seeded.engine.tick(candle(Timeframe.M1, OPEN, trades=2))
    seeded.engine.tick(candle(Timeframe.M1, OPEN + 60, trades=5))
    seeded.leave()
    last = seeded.engine.end("OLD/USD", OPEN + 64.0)
    closed = [c for c in last if c.closed]
    assert [(c.timeframe, c.open_time, c.trades) for c in closed] == [(Timeframe.M1, OPEN, 2)]
    forming = {c.timeframe: c for c in last if not c.closed}
    assert forming.keys() == set(TIMEFRAMES)
    assert (forming[Timeframe.M1].open_time, forming[Timeframe.M1].trades) == (OPEN + 60, 5)
    assert (forming[Timeframe.M5].trades, forming[Timeframe.M5].complete) == (7, True)
    assert "OLD/USD" not in seeded.engine.series


@pytest.mark.parametrize("left", [True, False])
def test_end_of_a_symbol_that_was_not_covered_at_its_end_is_not_complete(left):
    seeded = Seeded(until=OPEN + 30)
    seeded.engine.tick(candle(Timeframe.M1, OPEN, trades=2))
    if left:
        seeded.leave()
    last = seeded.engine.end("OLD/USD", OPEN + 120.0)
    assert [c.timeframe for c in last] == list(TIMEFRAMES)
    assert not any(candle.complete or candle.closed for candle in last)


def test_unfollowed_symbol_closes_with_its_trades_and_no_flat_candles():
    seeded = Seeded(until=OPEN + 62)
    seeded.engine.tick(candle(Timeframe.M1, OPEN, trades=2))
    seeded.leave()
    last = seeded.engine.leave("OLD/USD")
    assert [(c.timeframe, c.trades, c.complete) for c in last] == [(t, 2, False) for t in TIMEFRAMES[1:]]
    assert "OLD/USD" not in seeded.engine.series
