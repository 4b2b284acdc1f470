"""The channels besides ohlc: trade, ticker and book; and the unified socket."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kraken_simulator.book import Book, PriceLevel, book_of, changes, checksum
from kraken_simulator.digits import Digits
from kraken_simulator.tape import Tape, TapeTrade

from .conftest import Client, Socket, shared_data


async def follow(socket: Socket, channel: str, **params: Any) -> None:
    await socket.request("subscribe", channel=channel, symbol=["BTC/USD"], **params)
    await socket.frame(method="subscribe", success=True)


def recorded(channel: str) -> dict[str, Any]:
    lines = shared_data("kraken/v2_captured_misc_2026-09-25.jsonl").read_text().splitlines()
    frames = [json.loads(line) for line in lines]
    return next(frame for frame in frames if frame.get("channel") == channel)


@pytest.mark.parametrize("channel", ["trade", "ticker"])
async def test_update_has_the_recorded_keys(client: Client, channel: str) -> None:
    async with client.connect() as socket:
        await follow(socket, channel, snapshot=False)
        client.clock.advance(10)
        update = await socket.frame(channel=channel, type="update")
    assert list(update) == list(recorded(channel))
    assert list(update["data"][0]) == list(recorded(channel)["data"][0])


async def test_trades_are_all_given_once_with_ascending_numbers(client: Client) -> None:
    async with client.connect() as socket:
        await follow(socket, "trade", snapshot=True)
        trades = (await socket.frame(channel="trade", type="snapshot"))["data"]
        assert len(trades) == 50
        for _ in range(5):
            client.clock.advance(7)
            trades += (await socket.frame(channel="trade", type="update"))["data"]
    numbers = [trade["trade_id"] for trade in trades]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    rows = (await client.rest("Trades", pair="XBTUSD"))["result"]["XXBTZUSD"]
    by_number = {row[6]: row for row in rows}
    for trade in trades:
        row = by_number[trade["trade_id"]]
        assert (Decimal(row[0]), Decimal(row[1]), row[3]) == (trade["price"], trade["qty"], trade["side"][0])


async def test_ticker_adds_up_the_last_24_hours(client: Client) -> None:
    client.clock.advance(60)
    async with client.connect() as socket:
        await follow(socket, "ticker")
        row = (await socket.frame(channel="ticker", type="snapshot"))["data"][0]
    day = await client.truth("BTC/USD", "1m", **{"from": client.clock.now - 86_400})
    assert row["trades"] == sum(candle["trades"] for candle in day)
    assert row["volume"] == sum(candle["volume"] for candle in day)
    assert (row["high"], row["last"]) == (max(candle["high"] for candle in day), day[-1]["close"])
    assert row["bid"] < row["ask"]
    rest = (await client.rest("Ticker", pair="XBTUSD"))["result"]["XXBTZUSD"]
    assert (rest["t"][1], Decimal(rest["v"][1]), Decimal(rest["a"][0])) == (row["trades"], row["volume"], row["ask"])
    assert set((await client.rest("Ticker"))["result"]) == {"XXBTZUSD", "ADAEUR"}


async def test_followed_book_equals_a_fresh_one_and_its_checksum(client: Client) -> None:
    async with client.connect() as socket:
        await follow(socket, "book", depth=25)
        frame = await socket.frame(channel="book", type="snapshot")
        sides = {side: {level["price"]: level["qty"] for level in frame["data"][0][side]} for side in ("bids", "asks")}
        for _ in range(10):
            client.clock.advance(5)
            data = (await socket.frame(channel="book", type="update"))["data"][0]
            for side, levels in sides.items():
                for level in data[side]:
                    levels.pop(level["price"], None)
                    if level["qty"]:
                        levels[level["price"]] = level["qty"]
                kept = sorted(levels, reverse=side == "bids")[:25]
                sides[side] = {price: levels[price] for price in kept}
        async with client.connect() as fresh:
            await follow(fresh, "book", depth=25)
            now = (await fresh.frame(channel="book", type="snapshot"))["data"][0]
    for side in ("bids", "asks"):
        assert list(sides[side].items()) == [(level["price"], level["qty"]) for level in now[side]]
    assert data["checksum"] == now["checksum"]
    depth = (await client.rest("Depth", pair="XBTUSD", count=5))["result"]["XXBTZUSD"]
    assert [Decimal(price) for price, _, _ in depth["asks"]] == list(sides["asks"])[:5]


def test_checksum_is_that_of_the_digits_without_point_and_leading_zeros() -> None:
    import zlib

    book = Book((PriceLevel(4_520, 5_000_000),), (PriceLevel(4_530, 100_000_000),))
    assert checksum(book, Digits(2, 8, 2)) == zlib.crc32(b"45301000000004520" + b"5000000")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10**7), st.booleans()), min_size=2, max_size=30), st.sampled_from([10, 25]))
def test_changes_lead_from_every_book_to_the_next(trades: list[tuple[int, bool]], depth: int) -> None:
    tape, digits, followed = Tape(), Digits(2, 5, 2), None
    for time, (price, sell) in enumerate(trades):
        tape.append(TapeTrade(time, price, 1_000, sell))
        book = book_of(tape, digits, depth)
        if followed is not None:
            for side, (before, after) in enumerate(zip(followed, book, strict=True)):
                levels = dict(before)
                levels.update((level.price, level.quantity) for level in changes(before, after))
                kept = sorted((price for price, quantity in levels.items() if quantity), reverse=side == 0)[:depth]
                assert tuple(PriceLevel(price, levels[price]) for price in kept) == after
        followed = book
        assert not book.bids or book.bids[0].price < book.asks[0].price
        assert all(level.quantity > 0 for level in (*book.bids, *book.asks))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"channel": "book", "symbol": ["BTC/USD"], "depth": 11}, "Subscription book depth not supported"),
        ({"channel": "book", "symbol": ["BTC/USD"], "depth": "10"}, "Subscription book depth must be an integer"),
        ({"channel": "trade", "symbol": ["XBT/USD"]}, "Currency pair not supported XBT/USD"),
    ],
)
async def test_wrong_subscription_is_refused(client: Client, params: dict[str, Any], text: str) -> None:
    async with client.connect() as socket:
        await socket.request("subscribe", **params)
        assert (await socket.frame(success=False))["error"] == text


async def test_channels_of_a_symbol_are_independent(client: Client) -> None:
    async with client.connect() as socket:
        for channel in ("trade", "ticker", "book"):
            await follow(socket, channel)
            await socket.request("subscribe", channel=channel, symbol=["BTC/USD"])
            assert (await socket.frame(success=False))["error"].startswith("Already subscribed")
        await socket.subscribe("BTC/USD")
        await socket.frame(channel="ohlc", type="snapshot")
        await socket.request("unsubscribe", channel="trade", symbol=["BTC/USD"])
        await socket.frame(method="unsubscribe", success=True)
        socket.seen.clear()
        client.clock.advance(10)
        await socket.frame(channel="book", type="update")
        await socket.frame(channel="ohlc", type="update")
        assert not any('"trade"' in text.partition("data")[0] for text in socket.seen)


async def test_unified_socket_requires_an_asset_class(client: Client) -> None:
    async with client.http.ws_connect(client.simulator.ws_url + "/public") as websocket:
        socket = Socket(websocket)
        await socket.subscribe("BTC/USD")
        assert (await socket.frame(success=False))["error"] == "Asset class not supported"
        await socket.subscribe("BTC/USD", asset_class="spot")
        assert (await socket.frame(type="snapshot"))["data"][0]["symbol"] == "BTC/USD"
