import json
from itertools import pairwise

import pytest

from .conftest import Client, running

ERRORS = [
    ("XBT/USD", 1, "Currency pair not supported XBT/USD"),
    ("btc/usd", 1, "Currency pair not supported btc/usd"),
    ("NO/SUCH", 1, "Currency pair not supported NO/SUCH"),
    ("XBTUSD", 1, "Currency pair not in ISO 4217-A3 format XBTUSD"),
    ("*", 1, "Currency pair not in ISO 4217-A3 format *"),
    ("BTC/USD", "1", "Subscription ohlc interval must be an integer"),
    ("BTC/USD", 2, "Subscription ohlc interval not supported"),
]


@pytest.mark.parametrize(("symbol", "interval", "text"), ERRORS)
async def test_bad_subscription_is_refused_with_krakens_text(
    client: Client, symbol: str, interval: object, text: str
) -> None:
    async with client.connect() as socket:
        await socket.subscribe(symbol, interval=interval, req_id=9)
        refusal = await socket.frame(method="subscribe")
    times = {"time_in": refusal["time_in"], "time_out": refusal["time_out"]}
    assert refusal == {
        "error": text,
        "method": "subscribe",
        "req_id": 9,
        "success": False,
        "symbol": symbol,
        **times,
    }


async def test_unknown_channel_is_an_unsupported_event(client: Client) -> None:
    async with client.connect() as socket:
        await socket.request("subscribe", channel="nonsense", symbol=["BTC/USD"])
        assert (await socket.frame(success=False))["error"] == "Unsupported event"


async def test_request_in_a_binary_frame_is_one_too(client: Client) -> None:
    request = {"method": "subscribe", "params": {"channel": "ohlc", "symbol": ["BTC/USD"], "interval": 1}}
    async with client.connect() as socket:
        await socket.websocket.send_bytes(json.dumps(request).encode())
        assert (await socket.frame(method="subscribe"))["success"] is True


async def test_second_interval_of_a_symbol_is_refused_on_one_connection_only(client: Client) -> None:
    async with client.connect() as socket, client.connect() as other:
        await socket.subscribe("BTC/USD", interval=1)
        await socket.frame(success=True)
        await socket.subscribe("BTC/USD", interval=5)
        assert (await socket.frame(success=False))["error"] == "Already subscribed to one ohlc interval on this symbol"
        await socket.subscribe("BTC/USD", interval=1)
        assert (await socket.frame(success=False))["error"].startswith("Already subscribed")
        await other.subscribe("BTC/USD", interval=5)
        assert (await other.frame(method="subscribe"))["success"] is True


async def test_each_ack_is_followed_by_its_snapshot_in_the_requested_order(client: Client) -> None:
    async with client.connect() as socket:
        await socket.frame(channel="status")
        await socket.subscribe("ADA/EUR", "XBT/USD", "BTC/USD")
        frames = [await socket.frame() for _ in range(5)]
    shown = [
        frame.get("symbol") or frame.get("result", {}).get("symbol") or frame["data"][0]["symbol"] for frame in frames
    ]
    assert shown == ["ADA/EUR", "ADA/EUR", "XBT/USD", "BTC/USD", "BTC/USD"]
    assert [frame.get("success", "snapshot") for frame in frames] == [True, "snapshot", False, True, "snapshot"]


async def test_snapshot_can_be_declined(client: Client) -> None:
    async with client.connect() as socket:
        await socket.subscribe("BTC/USD", snapshot=False)
        assert (await socket.frame(success=True))["result"]["snapshot"] is False
        client.clock.advance(20)
        assert (await socket.frame(channel="ohlc"))["type"] == "update"


async def test_unsubscribed_symbol_can_be_resubscribed_with_a_new_snapshot(client: Client) -> None:
    async with client.connect() as socket:
        await socket.subscribe("BTC/USD")
        await socket.frame(type="snapshot")
        await socket.request("unsubscribe", channel="ohlc", symbol=["BTC/USD"], interval=1, req_id=43)
        ack = await socket.frame(method="unsubscribe")
        assert list(ack) == ["method", "req_id", "result", "success", "time_in", "time_out"]
        assert ack["result"] == {"channel": "ohlc", "interval": 1, "symbol": "BTC/USD"}
        await socket.subscribe("BTC/USD", interval=5)
        assert (await socket.frame(type="snapshot"))["data"][0]["interval"] == 5


async def test_updates_are_cumulative_and_the_boundary_sends_nothing(client: Client) -> None:
    async with client.connect() as socket:
        await socket.subscribe("BTC/USD")
        await socket.frame(type="snapshot")
        rows = []
        for _ in range(16):
            client.clock.advance(7.5)
            rows.append((await socket.frame(channel="ohlc", type="update"))["data"][0])
    for earlier, later in pairwise(rows):
        if earlier["interval_begin"] == later["interval_begin"]:
            assert later["trades"] > earlier["trades"]
            assert later["open"] == earlier["open"]
            assert later["high"] >= earlier["high"]
    assert len({row["interval_begin"] for row in rows}) >= 2
    assert all(row["trades"] > 0 for row in rows)


async def test_heartbeat_comes_in_silence_after_the_first_subscription_only(client: Client) -> None:
    async with client.connect() as socket:
        await socket.frame(channel="status")
        client.clock.advance(5)
        await socket.request("ping")
        await socket.frame(method="pong")
        await socket.subscribe("ADA/EUR")
        await socket.frame(type="snapshot")
        assert not any("heartbeat" in text for text in socket.seen)
        client.clock.advance(1.1)
        await socket.frame(channel="heartbeat")


async def test_socket_without_subscription_is_closed_after_a_minute_unless_it_pings(client: Client) -> None:
    async with client.connect() as idle, client.connect() as pinging, client.connect() as subscribed:
        await subscribed.subscribe("ADA/EUR")
        await subscribed.frame(type="snapshot")
        client.clock.advance(40)
        await pinging.request("ping")
        await pinging.frame(method="pong")
        client.clock.advance(25)
        assert (await idle.close_message()).type.name in {"CLOSE", "CLOSED", "CLOSING"}
        await pinging.request("ping")
        await pinging.frame(method="pong")
        await subscribed.request("ping")
        await subscribed.frame(method="pong")


async def test_too_many_requests_on_a_socket_exceed_the_message_rate() -> None:
    async with running(request_burst=3, request_rate=1) as client, client.connect() as socket:
        for _ in range(4):
            await socket.request("ping")
        assert await socket.text(lambda text: "Error" in text) == '{"Error":"Exceeded msg rate"}'


async def test_instrument_snapshot_has_pairs_with_their_precisions(client: Client) -> None:
    async with client.connect() as socket:
        await socket.request("subscribe", channel="instrument")
        await socket.frame(method="subscribe", success=True)
        data = (await socket.frame(channel="instrument", type="snapshot"))["data"]
    pair = data["pairs"][0]
    names = ("symbol", "base", "quote", "status", "qty_precision", "price_precision")
    assert [pair[name] for name in names] == ["BTC/USD", "BTC", "USD", "online", 8, 1]
    assert {asset["id"] for asset in data["assets"]} == {"BTC", "USD", "ADA", "EUR"}


async def test_malformed_request_gets_an_error(client: Client) -> None:
    async with client.connect() as socket:
        await socket.websocket.send_str("hello")
        assert (await socket.frame(success=False))["error"] == "Malformed request"


async def test_connection_attempts_over_the_limit_get_429_until_the_window_has_passed() -> None:
    async with running(connection_limit=2) as client:
        async with client.connect() as first, client.connect() as second:
            await first.frame(channel="status")
            await second.frame(channel="status")
            async with client.http.get(client.simulator.rest_url + "/v2") as response:
                assert response.status == 429
        client.clock.advance(601)
        async with client.connect() as socket:
            await socket.frame(channel="status")
        _, stats = await client.control("GET", "/stats")
    assert (stats["connection_attempts"], stats["connections_refused"]) == (4, 1)
    assert stats["connection_attempts_in_window"] == 1
