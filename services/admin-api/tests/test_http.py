"""Candles, symbols, bootstrap and errors over HTTP."""

import json
import sqlite3
from contextlib import closing
from decimal import Decimal

import httpx
import pytest

from ingress_common.payloads import encode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339

PROBLEM = "application/problem+json"


async def get_candles(http, query="", symbol="BTC-USD"):
    answer = await http.get(f"/candles/{symbol}?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()["candles"]


async def test_candles_are_as_on_the_bus_oldest_first_and_the_forming_one_last(world, candle):
    rows = [candle(-2, volume=Decimal("0.10000000")), candle(-1), candle(0, closed=False)]
    await world.store(*rows[::-1])
    async with world.running() as http:
        answer = await http.get("/candles/BTC-USD")
    head = b'{"symbol":"BTC/USD","timeframe":"1m","candles":['
    assert answer.content == head + b",".join(encode_candle(row) for row in rows) + b"]}"
    assert b'"volume":0.10000000' in answer.content
    assert json.loads(answer.content)["candles"][2]["closed"] is False


async def test_a_timeframe_and_a_range_are_respected(world, candle):
    rows = [candle(n, timeframe=Timeframe.M15) for n in range(-10, 0)]
    await world.store(*rows, candle(-1))
    async with world.running() as http:
        start, end = rows[3].open_time, rows[6].open_time
        for query in (f"from={rfc3339(start)}&to={rfc3339(end)}", f"from={start}&to={end}", f"from={start}.0&to={end}"):
            found = await get_candles(http, f"timeframe=15m&{query}")
            assert [c["open_time"] for c in found] == [rfc3339(row.open_time) for row in rows[3:6]]
        assert len(await get_candles(http, f"timeframe=15m&from={start}")) == 7
        assert len(await get_candles(http, f"timeframe=15m&to={end}")) == 6
        assert await get_candles(http, f"timeframe=15m&from={start}&to={start}") == []


async def test_the_forming_candle_is_left_out_where_the_range_ends_before_it(world, candle):
    closed, forming = candle(-1), candle(0, closed=False)
    await world.store(closed, forming)
    async with world.running() as http:
        assert len(await get_candles(http, f"to={forming.open_time}")) == 1
        assert len(await get_candles(http, f"to={forming.open_time + 1}")) == 2
        found = await get_candles(http, f"from={forming.open_time}")
        assert [c["closed"] for c in found] == [False]


async def test_a_stored_forming_candle_is_left_out_when_its_window_is_long_over(world, candle):
    """It is of a symbol that was taken out of SYMBOLS in a window without trades: the bus has it no more."""
    await world.store(candle(-1), candle(0, closed=False))
    world.now += 120
    async with world.running() as http:
        assert [c["closed"] for c in await get_candles(http)] == [True]


async def test_a_limit_keeps_the_newest(world, candle):
    rows = [candle(n) for n in range(-600, 0)]
    await world.store(*rows, candle(0, closed=False))
    async with world.running() as http:
        found = await get_candles(http, "limit=3")
        assert [c["open_time"] for c in found] == [rfc3339(candle(n).open_time) for n in (-2, -1, 0)]
        assert len(await get_candles(http)) == 500
        assert len(await get_candles(http, "limit=5000")) == 601
        assert len(await get_candles(http, "timeframe=&from=&to=&limit=")) == 500


@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        ("/candles/ETH-USD", 404, "ETH/USD"),
        ("/candles/BTCUSD", 404, "BTCUSD"),
        ("/candles/btc-usd", 404, "btc/usd"),
        ("/candles/BTC-USD?timeframe=2m", 422, "timeframe: expected a timeframe of 1m, 5m"),
        ("/candles/BTC-USD?from=yesterday", 422, "from: expected an RFC 3339 time"),
        ("/candles/BTC-USD?from=2024-02-25T02:15:00", 422, "from: expected an RFC 3339 time"),
        ("/candles/BTC-USD?to=nan", 422, "to: expected"),
        ("/candles/BTC-USD?to=1e30", 422, "to: expected"),
        ("/candles/BTC-USD?from=-1", 422, "from: expected"),
        ("/candles/BTC-USD?from=200&to=100", 422, "`from` no later than `to`"),
        (
            "/candles/BTC-USD?limit=0",
            422,
            "limit: expected a number from 1 to 5000 as JSON, to 100000 in the other formats, got '0'",
        ),
        ("/candles/BTC-USD?limit=5001", 422, "limit: expected"),
        ("/candles/BTC-USD?limit=1&limit=2", 422, "limit: expected it once, got it 2 times"),
        ("/candles/BTC-USD?limit=many", 422, "limit: expected"),
        ("/nowhere", 404, "Not Found"),
    ],
)
async def test_bad_request_gets_a_problem_with_the_reason(world, candle, path, status, named):
    await world.store(candle())
    async with world.running() as http:
        answer = await http.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == PROBLEM
    body = answer.json()
    assert set(body) - {"errors"} == {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert named in body["detail"]


async def test_another_method_is_refused_as_a_problem(world):
    async with world.running() as http:
        answer = await http.delete("/symbols")
    assert answer.status_code == 405
    assert answer.headers["content-type"] == PROBLEM


async def test_unstored_candle_is_served_from_the_bus(world, candle):
    async with world.running() as http:
        await world.candle(candle(symbol="ADA/USD"))
        await world.until(lambda: "ADA/USD" in world.service.state.symbols)
        answer = await http.get("/candles/ADA-USD")
    assert answer.content.endswith(b"[" + encode_candle(candle(symbol="ADA/USD")) + b"]}")


async def test_symbols_have_their_timeframes_and_freshness(world, candle):
    await world.store(candle(-2), candle(-1), candle(-1, timeframe=Timeframe.H1), candle(symbol="ETH/USD"))
    async with world.running() as http:
        await world.alive()
        await world.candle(candle(symbol="ADA/USD"))
        await world.until(lambda: "ADA/USD" in world.service.state.symbols)
        body = (await http.get("/symbols")).json()
    assert [entry["symbol"] for entry in body["symbols"]] == ["ADA/USD", "BTC/USD", "ETH/USD"]
    bitcoin = body["symbols"][1]
    assert bitcoin["timeframes"] == ["1m", "1h"]
    assert bitcoin["newest"]["1m"] == rfc3339(candle(-1).open_time)
    assert bitcoin["age_seconds"] == 29.0
    assert [entry["live"] for entry in body["symbols"]] == [False, True, False]


async def test_symbols_know_what_has_been_stored_since_their_list_was_read(world, candle):
    async with world.running() as http:
        await world.healthy()
        await world.until_failing()
        await http.get("/symbols")
        await world.wait(40)
        await world.candle(candle(0))
        await world.store(candle(0))

        async def newest():
            (bitcoin,) = (await http.get("/symbols")).json()["symbols"]
            return bitcoin["newest"]["1m"] == rfc3339(candle(0).open_time)

        await world.until(newest)


async def test_the_store_is_bootstrapped_at_start_and_shown(world):
    async with world.running() as http:
        body = (await http.get("/bootstrap")).json()
    assert body["complete"] is True
    assert body["difference"] == []
    assert {"candles", "ticks", "series"} <= {entry["name"] for entry in body["is"]}
    assert body["is"] == body["should_be"]


async def test_foreign_resources_are_shown_only_with_the_token(world):
    async with world.running() as http:
        with closing(sqlite3.connect(world.path)) as connection:
            connection.execute("CREATE TABLE of_somebody_else (secret TEXT)")
        assert "of_somebody_else" not in (await http.get("/bootstrap")).text
        assert "of_somebody_else" not in (await http.get("/bootstrap", headers={"Authorization": "Bearer x"})).text
        assert "of_somebody_else" in (await http.get("/bootstrap", headers=token())).text


async def test_bootstrap_repairs_with_the_token_and_only_with_it(world):
    async with world.running() as http:
        with closing(sqlite3.connect(world.path)) as connection:
            connection.execute("DROP INDEX ticks_by_age")
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer"},
            {"Authorization": "Basic czNjcmV0"},
            {"Authorization": "s3cret"},
        ):
            answer = await http.post("/bootstrap", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["content-type"] == PROBLEM
            assert answer.headers["www-authenticate"] == "Bearer"
        difference = (await http.get("/bootstrap")).json()["difference"]
        assert [(entry["name"], entry["state"]) for entry in difference] == [("ticks_by_age", "missing")]
        answer = await http.post("/bootstrap", headers=token())
        assert answer.status_code == 200
        assert answer.json()["changes"] == ["created index ticks_by_age"]
        assert answer.json()["complete"] is True
        again = await http.post("/bootstrap", headers=token())
        assert again.json()["changes"] == []


async def test_without_a_configured_token_nothing_can_be_changed(world):
    async with world.running(admin_token=None) as http:
        for headers in ({}, token(), {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
            answer = await http.post("/bootstrap", headers=headers)
            assert answer.status_code == 401
            assert "ADMIN_TOKEN is not set" in answer.json()["detail"]


async def test_unavailable_store_gets_503(world, candle):
    await world.store(candle())
    async with world.running() as http:
        with closing(sqlite3.connect(world.path)) as connection:
            connection.execute("DROP TABLE candles")
        for path in ("/candles/BTC-USD", "/symbols"):
            answer = await http.get(path)
            assert answer.status_code == 503
            assert "the store does not answer" in answer.json()["detail"]


async def test_every_documented_endpoint_responds(world, candle):
    await world.store(candle())
    async with world.running() as http:
        await world.healthy()
        await world.until_failing()
        paths = (await http.get("/openapi.json")).json()["paths"]
        assert set(paths) == {
            "/health",
            "/health/live",
            "/health/ready",
            "/metrics",
            "/bootstrap",
            "/stream",
            "/symbols",
            "/candles/{symbol}",
            "/gaps",
            "/repair",
            "/dead-letters",
            "/dead-letters/{dead_letter_id}",
            "/dead-letters/{dead_letter_id}/resend",
        }
        # A stream has no end; it has tests of its own.
        del paths["/stream"]
        for path, methods in paths.items():
            for method, operation in methods.items():
                url = path.replace("{symbol}", "BTC-USD").replace("{dead_letter_id}", "none")
                answer = await http.request(method, url, headers=token())
                assert str(answer.status_code) in operation["responses"], (method, path, answer.text)
                expected = {"/health": (200, 503), "/repair": (202,)}.get(
                    path, (404,) if "dead_letter_id" in path else (200,)
                )
                assert answer.status_code in expected
        assert (await http.get("/docs")).status_code == 200
        assert (await http.get("/redoc")).status_code == 404


async def test_it_serves_over_a_real_port(world):
    async with world.running():
        await world.until(lambda: world.service.port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.service.port}") as http:
            assert (await http.get("/health/live")).status_code == 200


def token():
    return {"Authorization": "Bearer s3cret-token"}
