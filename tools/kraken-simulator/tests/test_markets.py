from decimal import Decimal
from itertools import pairwise

import pytest

from kraken_simulator.market import Market
from kraken_simulator.profiles import DEFAULT_PROFILES, default_profiles
from kraken_simulator.sources.synthetic import SyntheticSource, full_history

from .conftest import MINUTE_START, Client, ManualClock, running

INTERVALS = {1: "1m", 5: "5m", 15: "15m", 60: "1h", 240: "4h", 1440: "1d", 10080: "1w"}
START = int(MINUTE_START)


def trades(seed: int, until: int) -> list[tuple[int, int, int]]:
    market = Market(SyntheticSource(DEFAULT_PROFILES[0], seed=seed, epoch=START, history=full_history(12)))
    market.advance(until * 10**9)
    return list(market.true_trades(0, 2**62))


def test_market_is_determined_by_its_seed() -> None:
    assert trades(1, START + 300) == trades(1, START + 300)
    assert trades(1, START + 300) != trades(2, START + 300)


def test_trades_do_not_depend_on_the_step_interval() -> None:
    market = Market(SyntheticSource(DEFAULT_PROFILES[1], seed=1, epoch=START, history=()))
    other = Market(SyntheticSource(DEFAULT_PROFILES[1], seed=1, epoch=START, history=()))
    for tenth in range(6_000):
        market.advance(START * 10**9 + tenth * 10**8)
    other.advance(START * 10**9 + 5_999 * 10**8)
    assert list(market.true_trades(0, 2**62)) == list(other.true_trades(0, 2**62))


def test_default_markets_trade_as_often_as_they_should() -> None:
    for profile in DEFAULT_PROFILES:
        market = Market(SyntheticSource(profile, seed=1, epoch=START, history=()))
        market.advance((START + 36_000) * 10**9)
        made = len(list(market.true_trades(0, 2**62)))
        assert made == pytest.approx(profile.trades_per_minute * 600, rel=0.3, abs=12)


def test_times_ascend_strictly() -> None:
    times = [time for time, _, _ in trades(3, START + 600)]
    assert all(later > earlier for earlier, later in pairwise(times))


def test_three_hundred_synthetic_pairs_have_distinct_names() -> None:
    names = {profile.pair.symbol for profile in default_profiles(300)}
    assert len(names) == 300


async def test_last_websocket_states_and_rest_rows_equal_the_truth() -> None:
    clock = ManualClock(START - 900.0)
    async with running(clock) as client:
        states: dict[tuple[str, int], dict[str, dict[str, object]]] = {}
        for interval in INTERVALS:
            async with client.connect() as socket:
                await socket.subscribe("BTC/USD", "ADA/EUR", interval=interval)
                for _ in range(2):
                    await _collect(await socket.frame(type="snapshot"), states)
                for _ in range(14):
                    clock.advance(11)
                    await _collect(await socket.frame(channel="ohlc", type="update"), states)
                await socket.request("ping")
                await socket.frame(method="pong")
                for text in socket.seen:
                    if '"type":"update"' in text and '"ohlc"' in text:
                        await _collect(_loads(text), states)
            for symbol in ("BTC/USD", "ADA/EUR"):
                await _compare(client, symbol, interval, states[symbol, interval])


def _loads(text: str) -> dict[str, object]:
    import json

    return json.loads(text, parse_float=Decimal)


async def _collect(frame: dict, states: dict) -> None:
    for row in frame["data"]:
        states.setdefault((row["symbol"], row["interval"]), {})[row["interval_begin"]] = row


async def _compare(client: Client, symbol: str, interval: int, states: dict) -> None:
    fields = ("open", "high", "low", "close", "volume", "trades")
    truth = {candle["open_time"]: candle for candle in await client.truth(symbol, INTERVALS[interval])}
    newest = max(states)
    for begin, row in states.items():
        candle = truth[begin[:19] + "Z"]
        if begin != newest:
            assert [row[field] for field in fields] == [candle[field] for field in fields]
    from datetime import datetime

    pair = "XBTUSD" if symbol == "BTC/USD" else "ADAEUR"
    result = (await client.rest("OHLC", pair=pair, interval=interval))["result"]
    rows = {row[0]: row for row in next(iter(result.values())) if row[7]}
    first = min(rows)
    by_time = {int(datetime.fromisoformat(time).timestamp()): candle for time, candle in truth.items()}
    assert set(rows) == {time for time in by_time if time >= first}
    for time, row in rows.items():
        values = [*(Decimal(text) for text in row[1:5]), Decimal(row[6]), row[7]]
        assert values == [by_time[time][field] for field in fields]


async def test_truth_is_limited_by_open_time_in_either_form(client: Client) -> None:
    everything = await client.truth("BTC/USD", "5m")
    part = await client.truth("BTC/USD", "5m", **{"from": everything[-5]["open_time"], "to": START})
    assert part == [candle for candle in everything[-5:] if candle["open_time"] < "2023-11-14T22:14:00Z"]


async def test_truth_of_an_unknown_pair_or_timeframe_lists_the_valid_ones(client: Client) -> None:
    status, body = await client.control("GET", "/truth/NO-SUCH")
    assert (status, "BTC-USD" in body["error"]) == (404, True)
    status, body = await client.control("GET", "/truth/BTC-USD?timeframe=2m")
    assert (status, "15m" in body["error"]) == (400, True)
    status, body = await client.control("GET", "/truth/BTC-USD?from=yesterday")
    assert (status, "RFC 3339" in body["error"]) == (400, True)
