"""The life of a pair: listed, delisted, renamed, with other decimals or another status."""

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from kraken_simulator.market import Market
from kraken_simulator.pairs import SimulatedPair
from kraken_simulator.profiles import MAX_SYMBOLS, default_profiles, profile_of, tokenized_profiles
from kraken_simulator.sources.synthetic import SyntheticSource, full_history

from .conftest import MINUTE_START, Client, ManualClock, Socket, running

UNKNOWN_PAIR = {"error": ["EQuery:Unknown asset pair"]}


async def move(client: Client, seconds: float, step: float = 1.0) -> None:
    for _ in range(round(seconds / step)):
        client.clock.advance(step)
        client.simulator.exchange.step()


async def change(client: Client, kind: str, symbol: str, **fields: Any) -> None:
    status, body = await client.control("POST", "/faults", {"kind": kind, "symbol": symbol, **fields})
    assert status == 201, body


async def followed_instruments(socket: Socket, **params: Any) -> dict[str, Any]:
    await socket.request("subscribe", channel="instrument", **params)
    return (await socket.frame(channel="instrument", type="snapshot"))["data"]


async def next_statuses(socket: Socket) -> list[tuple[str, str]]:
    update = await socket.frame(channel="instrument", type="update")
    return [(pair["symbol"], pair["status"]) for pair in update["data"]["pairs"]]


async def test_new_pair_begins_in_limit_only_without_a_past_and_is_complete_from_its_first_trade(
    client: Client,
) -> None:
    async with client.connect() as lists, client.connect() as socket:
        await followed_instruments(lists)
        await change(client, "list", "NEW/USD", trades_per_minute=120, price_decimals=3, qty_decimals=5)
        assert await next_statuses(lists) == [("NEW/USD", "limit_only")]
        await socket.subscribe("NEW/USD")
        assert (await socket.frame(type="snapshot"))["data"] == []
        await move(client, 90)
        await socket.frame(channel="ohlc", type="update")
        truth = await client.truth("NEW/USD")
        rows = (await client.rest("OHLC", pair="NEWUSD"))["result"]["NEWUSD"]
    assert truth[0]["open_time"] == "2023-11-14T22:14:00Z"
    assert [row[7] for row in rows if row[7]] == [candle["trades"] for candle in truth]
    assert rows[0][6].partition(".")[2] == rows[0][6][-5:]
    await change(client, "status", "NEW/USD", status="online")
    assert (await client.rest("AssetPairs", pair="NEWUSD"))["result"]["NEWUSD"]["status"] == "online"


async def test_delisted_pair_is_gone_until_relisted(client: Client) -> None:
    status, body = await client.control("POST", "/faults", {"kind": "delist", "symbol": "BTC/USD"})
    assert (status, body["kind"], body["until"]) == (201, "delist", None)
    begin = int(client.clock.now)
    await move(client, 120)
    assert await client.rest("OHLC", pair="XBTUSD") == UNKNOWN_PAIR
    assert await client.truth("BTC/USD", "1m", **{"from": begin + 1}) == []
    assert (await client.control("GET", "/faults"))[1]["active"] == []
    await change(client, "list", "BTC/USD", status="online")
    await move(client, 120)
    assert (await client.rest("OHLC", pair="XBTUSD"))["error"] == []
    assert await client.truth("BTC/USD", "1m", **{"from": begin + 120})


async def test_change_with_seconds_is_reverted_at_the_end(client: Client) -> None:
    async with client.connect() as lists:
        await followed_instruments(lists)
        await change(client, "delist", "BTC/USD", seconds=10)
        assert await next_statuses(lists) == [("BTC/USD", "delisted")]
        await move(client, 11)
        assert await next_statuses(lists) == [("BTC/USD", "online")]
        await change(client, "rename", "BTC/USD", seconds=10, to="NEW/USD")
        assert await next_statuses(lists) == [("BTC/USD", "delisted"), ("NEW/USD", "online")]
        await move(client, 11)
        assert await next_statuses(lists) == [("NEW/USD", "delisted"), ("BTC/USD", "online")]


async def test_renamed_pair_continues_under_the_new_name_only(client: Client) -> None:
    async with client.connect() as socket:
        await socket.subscribe("BTC/USD")
        await socket.frame(type="snapshot")
        await move(client, 30)
        before = await client.truth("BTC/USD")
        await change(client, "rename", "BTC/USD", to="NEW/USD")
        await move(client, 90)
        assert await client.rest("OHLC", pair="XBTUSD") == UNKNOWN_PAIR
        assert await client.truth("BTC/USD") == before
        after = await client.truth("NEW/USD")
        assert after[: len(before) - 1] == before[:-1]
        assert sum(candle["trades"] for candle in after) > sum(candle["trades"] for candle in before)
        async with client.connect() as fresh:
            await fresh.subscribe("BTC/USD", "NEW/USD")
            assert (await fresh.frame(success=False))["error"] == "Currency pair not supported BTC/USD"
            assert (await fresh.frame(type="snapshot"))["data"][0]["symbol"] == "NEW/USD"


@pytest.mark.parametrize(("price_decimals", "qty_decimals"), [(3, 8), (0, 5), (2, 2)])
async def test_other_decimals_hold_from_now_on_and_leave_what_was_as_it_was(
    client: Client, price_decimals: int, qty_decimals: int
) -> None:
    await move(client, 60)
    before = await client.truth("BTC/USD")
    await change(client, "reprecision", "BTC/USD", price_decimals=price_decimals, qty_decimals=qty_decimals)
    await move(client, 120)
    after = await client.truth("BTC/USD")
    assert after[: len(before) - 1] == before[:-1]
    last = after[-1]
    assert all(last[field] == round(last[field], price_decimals) for field in ("open", "high", "low", "close"))
    assert last["volume"] == round(last["volume"], qty_decimals)
    rows = (await client.rest("OHLC", pair="XBTUSD"))["result"]["XXBTZUSD"]
    traded = [row for row in rows if row[7]][-5:]
    for row, candle in zip(traded, after[-len(traded) :], strict=True):
        assert [Decimal(text) for text in (*row[1:5], row[6])] == [
            candle[field] for field in ("open", "high", "low", "close", "volume")
        ]
    assert rows[-1][1].partition(".")[2] == str(rows[-1][1])[-price_decimals:] if price_decimals else True
    info = (await client.rest("AssetPairs", pair="XBTUSD"))["result"]["XXBTZUSD"]
    assert (info["pair_decimals"], info["lot_decimals"]) == (price_decimals, qty_decimals)


async def test_decimals_can_change_there_and_back_while_a_candle_forms(client: Client) -> None:
    async with client.connect() as socket:
        await socket.subscribe("BTC/USD", interval=5)
        await socket.frame(type="snapshot")
        for decimals in (4, 1, 0, 2):
            await move(client, 20)
            await change(client, "reprecision", "BTC/USD", price_decimals=decimals)
        await move(client, 5)
        await socket.request("ping")
        await socket.frame(method="pong")
        row = (await socket.frame(channel="ohlc", type="update"))["data"][0] if not socket.seen else None
    truth = (await client.truth("BTC/USD", "5m"))[-1]
    shown = (await client.rest("OHLC", pair="XBTUSD", interval=5))["result"]["XXBTZUSD"][-1]
    assert row is None or row["open"] == truth["open"]
    assert [Decimal(text) for text in shown[1:5]] == [truth[field] for field in ("open", "high", "low", "close")]
    assert (Decimal(shown[6]), shown[7]) == (truth["volume"], truth["trades"])


@pytest.mark.parametrize("status", ["limit_only", "post_only", "reduce_only", "cancel_only"])
async def test_pair_trades_in_every_status_but_cancel_only(client: Client, status: str) -> None:
    async with client.connect() as lists:
        await followed_instruments(lists)
        await change(client, "status", "BTC/USD", status=status)
        assert await next_statuses(lists) == [("BTC/USD", status)]
    begin = int(client.clock.now)
    await move(client, 120)
    assert bool(await client.truth("BTC/USD", "1m", **{"from": begin})) == (status != "cancel_only")


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"kind": "rename", "symbol": "BTC/USD"}, "to"),
        ({"kind": "rename", "symbol": "BTC/USD", "to": "ADA/EUR"}, "ADA/EUR"),
        ({"kind": "status", "symbol": "BTC/USD", "status": "sleeping"}, "limit_only"),
        ({"kind": "reprecision", "symbol": "BTC/USD"}, "price_decimals"),
        ({"kind": "reprecision", "symbol": "BTC/USD", "price_decimals": 11}, "from 0 to 10"),
        ({"kind": "list", "symbol": "BTC/USD"}, "not listed"),
        ({"kind": "list", "symbol": "btc"}, "BTC/USD"),
        ({"kind": "delist"}, "symbol"),
        ({"kind": "delist", "symbol": "BTC/USD", "to": "X/USD"}, "to"),
    ],
)
async def test_wrong_change_is_refused_with_a_reason(client: Client, body: dict[str, Any], part: str) -> None:
    status, response = await client.control("POST", "/faults", body)
    assert (status, part in response["error"]) == (400, True)


async def test_tokenised_pair_streams_like_any_other_but_rest_requires_its_class() -> None:
    async with running(symbols=("BTC/USD", "AAPLx/USD")) as client, client.connect() as socket:
        await socket.subscribe("AAPLx/USD")
        assert (await socket.frame(type="snapshot"))["data"][0]["symbol"] == "AAPLx/USD"
        assert await client.rest("OHLC", pair="AAPLxUSD") == UNKNOWN_PAIR
        assert await client.rest("AssetPairs", pair="AAPLxUSD") == UNKNOWN_PAIR
        for method in ("OHLC", "Trades", "Ticker", "Depth", "Spread"):
            response = await client.rest(method, pair="AAPLxUSD", asset_class="tokenized_asset")
            assert "AAPLxUSD" in response["result"]
            assert await client.rest(method, pair="XBTUSD", asset_class="tokenized_asset") == UNKNOWN_PAIR
        listed = (await client.rest("AssetPairs", aclass_base="tokenized_asset"))["result"]
        assert {key: row["aclass_base"] for key, row in listed.items()} == {"AAPLxUSD": "tokenized_asset"}
        assert set((await client.rest("AssetPairs"))["result"]) == {"XXBTZUSD"}
        assert set((await client.rest("Assets", aclass="tokenized_asset"))["result"]) == {"AAPLx"}


async def test_instrument_channel_lists_tokenised_pairs_only_on_request() -> None:
    async with (
        running(symbols=("BTC/USD", "AAPLx/USD")) as client,
        client.connect() as plain,
        client.connect() as all_of_them,
    ):
        data = await followed_instruments(plain)
        assert [pair["symbol"] for pair in data["pairs"]] == ["BTC/USD"]
        data = await followed_instruments(all_of_them, include_tokenized_assets=True)
        assert [pair["symbol"] for pair in data["pairs"]] == ["BTC/USD", "AAPLx/USD"]
        await change(client, "status", "AAPLx/USD", status="cancel_only")
        assert await next_statuses(all_of_them) == [("AAPLx/USD", "cancel_only")]
        await change(client, "status", "BTC/USD", status="limit_only")
        assert await next_statuses(plain) == [("BTC/USD", "limit_only")]


def test_rest_keys_are_legacy_ones_for_the_pairs_of_the_first_years_only() -> None:
    keys = {
        symbol: SimulatedPair(symbol, 1).key
        for symbol in ("BTC/USD", "ETH/BTC", "XRP/GBP", "USDT/USD", "BTC/USDT", "DOGE/USD", "EUR/USD", "AIXBT/USD")
    }
    assert list(keys.values()) == [
        *("XXBTZUSD", "XETHXXBT", "XRPGBP", "USDTZUSD", "XBTUSDT", "XDGUSD", "ZEURZUSD", "AIXBTUSD")
    ]


def test_thousands_of_pairs_have_distinct_names_and_an_activity_with_a_heavy_tail() -> None:
    profiles = default_profiles(MAX_SYMBOLS)
    assert len({name for profile in profiles for name in (profile.pair.symbol, profile.pair.key)}) >= MAX_SYMBOLS
    assert {profile.pair.qty_decimals for profile in profiles} == {5, 8}
    rates = sorted((profile.trades_per_minute for profile in profiles[:1_449]), reverse=True)
    assert sum(rates[:15]) > sum(rates) / 2
    assert rates[725] * 1_440 < 200
    assert all(earlier >= later for earlier, later in pairwise(rates))


def test_tokenised_profiles_have_their_class() -> None:
    assert {profile.pair.asset_class for profile in tokenized_profiles(10)} == {"tokenized_asset"}
    assert profile_of("TSLAx/EUR").pair.asset_class == "tokenized_asset"


def test_past_does_not_depend_on_the_time_of_the_request() -> None:
    def made(*, early: bool) -> list[tuple[int, int, int]]:
        source = SyntheticSource(default_profiles(1)[0], seed=1, epoch=int(MINUTE_START), history=full_history(12))
        market = Market(source)
        if early:
            market.make_past()
        market.advance(int(MINUTE_START + 600) * 10**9)
        return list(market.true_trades(0, 2**62))

    assert made(early=True) == made(early=False)


class CreepingClock(ManualClock):
    """Moves on by `creep` seconds whenever it is read."""

    creep = 0.0

    def __call__(self) -> float:
        self.now += self.creep
        return self.now


@pytest.mark.parametrize("fields", [{"kind": "delist"}, {"kind": "rename", "to": "NEW/USD"}])
async def test_trades_up_to_the_end_of_a_name_are_sent_under_it(fields: dict[str, str]) -> None:
    clock = CreepingClock()
    async with running(clock, poll_seconds=1.0) as client, client.connect() as socket:
        await socket.subscribe("BTC/USD")
        await socket.frame(type="snapshot")
        clock.creep = 2.0
        await change(client, symbol="BTC/USD", **fields)
        clock.creep = 0.0
        sent = 0
        [*_, last] = await client.truth("BTC/USD")
        while sent < last["trades"]:
            frame = await socket.frame(channel="ohlc", type="update")
            sent = frame["data"][-1]["trades"]
        assert sent == last["trades"]
