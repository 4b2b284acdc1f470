import asyncio
import json
from typing import Any

import aiohttp
import pytest

from kraken_simulator.faults import CHANGES, KINDS

from .conftest import Client, Socket, eventually, running


async def subscribed(socket: Socket, *symbols: str) -> None:
    await socket.subscribe(*(symbols or ("BTC/USD",)))
    for _ in symbols or ("BTC/USD",):
        await socket.frame(type="snapshot")


async def drive(client: Client, seconds: float, step: float = 1.0) -> None:
    """Move the clock and let the simulator take every step."""
    for _ in range(round(seconds / step)):
        client.clock.advance(step)
        client.simulator.exchange.step()
        await asyncio.sleep(0)


async def test_kinds_are_listed_with_descriptions_and_unknown_ones_refused(client: Client) -> None:
    status, body = await client.control("GET", "/faults")
    assert (status, body) == (200, {"kinds": {**KINDS, **CHANGES}, "active": []})
    for wrong, part in (
        ({"kind": "earthquake"}, "outage"),
        ({"kind": "eof", "symbol": "NO/SUCH"}, "BTC/USD"),
        ({"kind": "eof", "seconds": "5"}, "number"),
        ({"kind": "eof", "second": 5}, "seconds"),
        ([], "JSON object"),
    ):
        status, body = await client.control("POST", "/faults", wrong)
        assert status == 400
        assert part in body["error"]


async def test_fault_ends_after_its_seconds_or_when_deleted(client: Client) -> None:
    await client.fault("http_429", 10)
    assert [fault["kind"] for fault in (await client.control("GET", "/faults"))[1]["active"]] == ["http_429"]
    client.clock.advance(11)
    client.simulator.exchange.step()
    assert (await client.control("GET", "/faults"))[1]["active"] == []
    await client.fault("http_429", 10)
    status, body = await client.control("DELETE", "/faults")
    assert (status, [fault["kind"] for fault in body["ended"]]) == (200, ["http_429"])
    assert (await client.control("GET", "/faults"))[1]["active"] == []


@pytest.mark.parametrize(("kind", "code"), [("eof", 1006), ("rst", 1006), ("close_1001", 1001), ("close_1008", 1008)])
async def test_connection_is_dropped(client: Client, kind: str, code: int) -> None:
    async with client.connect() as socket, client.connect() as other:
        await subscribed(socket)
        await subscribed(other, "ADA/EUR")
        await client.fault(kind, symbol="BTC/USD")
        message = await socket.close_message()
        await eventually(lambda: socket.websocket.close_code is not None)
        assert socket.websocket.close_code == code
        if kind == "close_1001":
            assert message.extra == "CloudFlare WebSocket proxy restarting"
        await other.request("ping")
        await other.frame(method="pong")


async def test_eof_and_reset_differ_on_the_wire(client: Client) -> None:
    for kind in ("eof", "rst"):
        host, port = client.simulator.rest_url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"GET /v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await reader.readuntil(b'"emergency":[]}]}')
        await client.fault(kind)
        if kind == "eof":
            assert await reader.read() == b""
        else:
            with pytest.raises(ConnectionResetError):
                await reader.read()
        writer.close()


async def test_silent_connection_acks_and_then_sends_nothing(client: Client) -> None:
    await client.fault("silent", 30)
    async with client.connect() as socket:
        await socket.subscribe("BTC/USD", "ADA/EUR")
        for _ in range(2):
            await socket.frame(method="subscribe")
        await drive(client, 20)
        stats = (await client.control("GET", "/stats"))[1]
        assert stats["heartbeats_sent"] == 0
        assert stats["data_frames_lost"] > 5
        await drive(client, 15)
        await socket.frame(channel="ohlc", type="update")
    assert not any(("snapshot" in text and "result" not in text) or "heartbeat" in text for text in socket.seen)


async def test_blind_connection_has_heartbeats_and_other_symbols_but_not_this_one(client: Client) -> None:
    async with client.connect() as socket:
        await subscribed(socket, "BTC/USD", "ADA/EUR")
        await client.fault("blind", 3_000, symbol="BTC/USD")
        socket.seen.clear()
        await drive(client, 1_500, 10.0)
        await socket.text(lambda text: "ADA/EUR" in text)
        client.clock.advance(1.2)
        await socket.frame(channel="heartbeat")
        assert not any("BTC/USD" in text for text in socket.seen)
        async with client.connect() as fresh:
            await subscribed(fresh)
    assert len(await client.truth("BTC/USD", "1m", **{"from": client.clock.now - 600})) >= 9


async def test_half_open_socket_sends_nothing_and_is_reset_at_the_end(client: Client) -> None:
    async with client.connect() as socket:
        await subscribed(socket)
        await client.fault("half_open", 60)
        sent = (await client.control("GET", "/stats"))[1]["frames_sent"]
        await socket.request("ping")
        await socket.websocket.ping()
        await drive(client, 50)
        stats = (await client.control("GET", "/stats"))[1]
        assert (stats["frames_sent"], stats["open_connections"]) == (sent, 1)
        async with client.connect() as fresh:
            await fresh.frame(channel="status")
            await drive(client, 15)
            await eventually(lambda: len(client.simulator.exchange.listeners) == 1)
        with pytest.raises(TypeError):
            await socket.text(lambda text: "pong" in text)


async def test_message_rate_error_is_sent_for_every_request(client: Client) -> None:
    await client.fault("msg_rate")
    async with client.connect() as socket:
        await socket.subscribe("BTC/USD")
        assert await socket.text(lambda text: "channel" not in text) == '{"Error":"Exceeded msg rate"}'


@pytest.mark.parametrize(("kind", "status"), [("http_429", 429), ("outage", 503)])
async def test_upgrade_is_refused(client: Client, kind: str, status: int) -> None:
    await client.fault(kind, 5)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await client.http.ws_connect(client.simulator.ws_url)
    assert caught.value.status == status
    await drive(client, 6)
    async with client.connect() as socket:
        await socket.frame(channel="status")


@pytest.mark.parametrize("system", ["maintenance", "cancel_only", "post_only"])
async def test_system_state_is_shown_and_trading_halts_and_resumes(client: Client, system: str) -> None:
    async with client.connect() as socket:
        await subscribed(socket)
        started = int(client.clock.now)
        await client.fault(system, 120)
        assert (await socket.frame(channel="status", type="update"))["data"][0]["system"] == system
        async with client.connect() as fresh:
            assert (await fresh.frame(channel="status"))["data"][0]["system"] == system
        made = await client.truth("BTC/USD", "1m", **{"from": started})
        await drive(client, 100)
        assert await client.truth("BTC/USD", "1m", **{"from": started}) == made
        assert (await client.rest("SystemStatus"))["result"]["status"] == system
        unavailable = (await client.rest("OHLC", pair="XBTUSD"))["error"]
        assert unavailable == (["EService:Unavailable"] if system == "maintenance" else [])
        await drive(client, 25)
        assert (await socket.frame(channel="status"))["data"][0]["system"] == "online"
        await socket.frame(channel="ohlc", type="update")


async def test_status_of_a_socket_that_saw_nothing_else_is_its_first_frame(client: Client) -> None:
    async with client.connect() as socket:
        assert json.loads(await socket.text())["channel"] == "status"


async def test_late_frame_of_the_closed_slot_comes_behind_the_next_slots(client: Client) -> None:
    async with client.connect() as socket:
        await subscribed(socket)
        await client.fault("late_frame", 300)
        await drive(client, 65, 0.5)
        await socket.request("ping")
        await socket.frame(method="pong")
        rows = _rows(socket.seen)
        order = [row["interval_begin"] for row in rows]
        late = next(i for i in range(1, len(order)) if order[i] < order[i - 1])
        assert rows[late]["trades"] > max(row["trades"] for row in rows[:late] if row["interval_begin"] == order[late])
        final = (await client.truth("BTC/USD"))[-2]
        assert final["trades"] == rows[late]["trades"]


def _rows(texts: list[str]) -> list[dict[str, Any]]:
    frames = [json.loads(text) for text in texts if text.startswith('{"channel":"ohlc","type":"update"')]
    return [frame["data"][0] for frame in frames]


async def test_duplicate_frames_come_twice(client: Client) -> None:
    await client.fault("duplicate")
    async with client.connect() as socket:
        await subscribed(socket)
        await socket.frame(type="snapshot")
        client.clock.advance(10)
        first = await socket.text(lambda text: '"update"' in text and "ohlc" in text)
        assert await socket.text() == first


async def test_update_has_the_row_before_and_the_current_one(client: Client) -> None:
    async with client.connect() as socket:
        await subscribed(socket)
        await client.fault("many_rows")
        client.clock.advance(10)
        earlier, current = (await socket.frame(channel="ohlc", type="update"))["data"]
        assert earlier["interval_begin"] < current["interval_begin"]


@pytest.mark.parametrize(("kind", "part"), [("not_json", "<html>"), ("unknown_message", '"announcement"')])
async def test_noise_comes_every_second(client: Client, kind: str, part: str) -> None:
    async with client.connect() as socket:
        await client.fault(kind)
        for _ in range(3):
            client.clock.advance(1.1)
            assert part in await socket.text(lambda text: part in text)


@pytest.mark.parametrize("kind", ["revised_snapshot", "rest_revision"])
async def test_late_trade_is_in_truth_at_once_and_in_rest_and_snapshot_later(client: Client, kind: str) -> None:
    begin = int(client.clock.now)
    async with client.connect() as socket:
        await subscribed(socket)
        await drive(client, 10)
        await client.fault(kind, 90, symbol="BTC/USD")
        await drive(client, 60)
        await socket.request("ping")
        await socket.frame(method="pong")
        last = [row for row in _rows(socket.seen) if row["interval_begin"].startswith(_text(begin))][-1]
        true = (await client.truth("BTC/USD", "1m", **{"from": begin, "to": begin + 60}))[0]
        row = await _rest_row(client, begin)
        assert (last["trades"], row[7]) == (true["trades"] - 1, true["trades"] - 1)
        assert float(true["high"]) > last["high"]
        await drive(client, 40)
        row = await _rest_row(client, begin)
        assert (row[7], row[2]) == (true["trades"], str(true["high"]))
        if kind == "revised_snapshot":
            assert (await socket.close_message()).type is not aiohttp.WSMsgType.TEXT
        else:
            await socket.request("ping")
            await socket.frame(method="pong")
    async with client.connect() as fresh:
        await fresh.subscribe("BTC/USD")
        rows = (await fresh.frame(type="snapshot"))["data"]
        assert next(row for row in rows if row["interval_begin"].startswith(_text(begin)))["trades"] == true["trades"]


def _text(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


async def _rest_row(client: Client, begin: int) -> list[Any]:
    rows = (await client.rest("OHLC", pair="XBTUSD"))["result"]["XXBTZUSD"]
    return next(row for row in rows if row[0] == begin)


async def test_outage_drops_everyone_and_trading_goes_on(client: Client) -> None:
    async with client.connect() as socket:
        await subscribed(socket)
        begin = client.clock.now
        await client.fault("outage", 900)
        assert (await socket.close_message()).type is not aiohttp.WSMsgType.TEXT
        assert (await client.rest("OHLC", pair="XBTUSD")) == {"error": ["EService:Unavailable"]}
        await drive(client, 910, 10)
        assert len(await client.truth("BTC/USD", "1m", **{"from": begin})) == 16
    async with client.connect() as socket:
        await subscribed(socket)


async def test_rest_can_be_down_slow_or_limited(client: Client) -> None:
    await client.fault("rest_down")
    async with client.http.get(client.simulator.rest_url + "/0/public/SystemStatus") as response:
        assert (response.status, response.content_type) == (503, "text/html")
    await client.control("DELETE", "/faults")
    await client.fault("rest_limit")
    assert await client.rest("OHLC", pair="XBTUSD") == {"error": ["EGeneral:Too many requests"]}
    await client.control("DELETE", "/faults")
    await client.fault("rest_slow", 600)
    async with asyncio.TaskGroup() as tasks:
        pending = tasks.create_task(client.rest("SystemStatus"))
        await eventually(lambda: client.simulator.exchange.stats.rest_requests == 3)
        client.clock.advance(9)
        assert (await client.control("GET", "/health"))[0] == 200
        assert not pending.done()
        client.clock.advance(2)


async def test_simulator_stops_quickly_with_hung_and_silent_connections() -> None:
    async with asyncio.timeout(4), running() as client, client.connect() as hung, client.connect() as silent:
        await subscribed(hung)
        await client.fault("half_open", 600)
        await client.fault("silent", 600)
        await silent.frame(channel="status")
        async with asyncio.timeout(2):
            await client.simulator.stop()
        assert (await silent.close_message()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.control("GET", "/health")


async def test_unlisted_pair_does_not_exist_until_relisted(client: Client) -> None:
    async with client.connect() as socket, client.connect() as lists:
        await subscribed(socket, "BTC/USD", "ADA/EUR")
        await lists.request("subscribe", channel="instrument")
        assert [pair["symbol"] for pair in (await lists.frame(type="snapshot"))["data"]["pairs"]] == list(
            client.simulator.symbols
        )
        begin = int(client.clock.now)
        await client.fault("unlisted", 120, symbol="BTC/USD")
        update = await lists.frame(channel="instrument", type="update")
        assert [(pair["symbol"], pair["status"]) for pair in update["data"]["pairs"]] == [("BTC/USD", "delisted")]
        socket.seen.clear()
        made = await client.truth("BTC/USD", "1m", **{"from": begin})
        await drive(client, 100)
        assert await client.truth("BTC/USD", "1m", **{"from": begin}) == made
        assert not any('"BTC/USD"' in text for text in socket.seen)
        async with client.connect() as fresh:
            await fresh.subscribe("BTC/USD", "ADA/EUR")
            assert (await fresh.frame(success=False))["error"] == "Currency pair not supported BTC/USD"
            await fresh.frame(type="snapshot")
            await fresh.request("subscribe", channel="instrument")
            listed = await fresh.frame(channel="instrument", type="snapshot")
            assert [pair["symbol"] for pair in listed["data"]["pairs"]] == ["ADA/EUR"]
        unknown = {"error": ["EQuery:Unknown asset pair"]}
        assert await client.rest("OHLC", pair="XBTUSD") == await client.rest("AssetPairs", pair="XBTUSD") == unknown
        assert len((await client.rest("AssetPairs"))["result"]) == 1
        await drive(client, 30)
        update = await lists.frame(channel="instrument", type="update")
        assert [(pair["symbol"], pair["status"]) for pair in update["data"]["pairs"]] == [("BTC/USD", "online")]
        assert await client.truth("BTC/USD", "1m", **{"from": begin + 120})
    async with client.connect() as fresh:
        await subscribed(fresh)


async def test_throttled_rest_has_its_end(client: Client) -> None:
    await client.fault("throttled", 20)
    until = int(client.clock.now) + 20
    assert await client.rest("OHLC", pair="XBTUSD") == {"error": [f"EService:Throttled: {until}"]}
    await drive(client, 21)
    assert (await client.rest("OHLC", pair="XBTUSD"))["error"] == []


async def test_rows_can_deviate_within_tolerance(client: Client) -> None:
    await client.fault("string_numbers")
    await client.fault("float_interval")
    async with client.connect() as socket:
        await socket.subscribe("BTC/USD")
        text = await socket.text(lambda text: '"snapshot","timestamp"' in text)
    row = json.loads(text)["data"][0]
    assert all(isinstance(row[field], str) for field in ("open", "high", "low", "close", "volume", "vwap"))
    assert '"interval":1.0,' in text


async def test_status_frames_can_come_every_second(client: Client) -> None:
    async with client.connect() as socket:
        await socket.frame(channel="status")
        await client.fault("status_frames")
        for _ in range(3):
            client.clock.advance(1.1)
            status = await socket.frame(channel="status")
            assert [row["system"] for row in status["data"]] == ["online"]
    assert len([text for text in socket.seen if '"status"' in text]) == 4


async def test_rest_responses_can_deviate_within_tolerance() -> None:
    async with running(symbols=8) as client:
        await client.fault("empty_last")
        await client.fault("asked_key")
        await client.fault("no_status")
        assert (await client.rest("Trades", pair="BTC/USD", since=2**61))["result"] == {"BTC/USD": [], "last": ""}
        assert "BTC/USD" in (await client.rest("OHLC", pair="BTC/USD"))["result"]
        rows = (await client.rest("AssetPairs"))["result"]
        assert sum("status" not in row for row in rows.values()) == 2
