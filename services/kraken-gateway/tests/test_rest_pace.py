"""How often one pair is asked for."""

import asyncio
from itertools import pairwise

import httpx
import pytest

from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken import rest
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.rest import KrakenRest, Pair, TooManyRequestsError

PAIR = Pair("XBTUSD", 1)
TOO_MANY = b'{"error":["EGeneral:Too many requests"]}'
ROWS = b'{"error":[],"result":{"XXBTZUSD":[],"last":0}}'


async def test_gap_doubles_up_to_a_longest_one_while_kraken_is_asked_too_much_and_is_as_before_after_a_success(
    metrics, monkeypatch
):
    monkeypatch.setattr(rest, "CALL_GAP", 0.01)
    monkeypatch.setattr(rest, "LONGEST_GAP", 0.08)
    answers = [TOO_MANY] * 5 + [ROWS]
    asked: list[float] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(asyncio.get_running_loop().time())
        return httpx.Response(200, content=answers[len(asked) - 1])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        kraken = KrakenRest("https://kraken.invalid", client, metrics)
        for _ in range(5):
            with pytest.raises(TooManyRequestsError):
                await kraken.ohlc(PAIR, Timeframe.M1, 0)
        assert await kraken.ohlc(PAIR, Timeframe.M1, 0) == ()
        assert kraken.ready_at(PAIR) - asyncio.get_running_loop().time() <= 0.01
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert all(gap >= least for gap, least in zip(gaps, (0.02, 0.04, 0.08, 0.08, 0.08), strict=True))
    assert kraken.ready_at(Pair("ETHUSD", 2)) == float("-inf")


async def test_date_of_an_answer_is_kraken_time_until_a_connection_measures_it(metrics):
    steady = 50.0
    time = KrakenClock(lambda: 5_000.0, lambda: steady)
    dates = iter(["Thu, 01 Jan 1970 00:20:00 GMT", "no date"])

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=ROWS, headers={"date": next(dates)})

    assert time.now() == 5_000.0
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        kraken = KrakenRest("https://kraken.invalid", client, metrics, time.date)
        await kraken.ohlc(PAIR, Timeframe.M1, 0)
        await kraken.ohlc(PAIR, Timeframe.M5, 0)
    steady += 3.0
    assert time.now() == 1_203.0
    assert time.offset is None
    time.learn("feed", 1_151.5)
    assert time.now() == 1_204.5
