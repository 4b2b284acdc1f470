"""How often one pair is requested, and responses that do not come."""

import asyncio
from itertools import pairwise

import httpx
import pytest

from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken import rest
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.rest import (
    KrakenAilingError,
    KrakenRest,
    Pair,
    RestError,
    ThrottledError,
    TooManyRequestsError,
    UnknownPairError,
)

PAIR = Pair("XBTUSD", 1)
TOO_MANY = b'{"error":["EGeneral:Too many requests"]}'
ROWS = b'{"error":[],"result":{"XXBTZUSD":[],"last":0}}'


async def test_call_gap_doubles_while_rate_limited_and_resets_after_a_success(metrics, monkeypatch):
    monkeypatch.setattr(rest, "CALL_GAP", 0.01)
    monkeypatch.setattr(rest, "LONGEST_GAP", 0.08)
    responses = [TOO_MANY] * 5 + [ROWS]
    requested_at: list[float] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        requested_at.append(asyncio.get_running_loop().time())
        return httpx.Response(200, content=responses[len(requested_at) - 1])

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        kraken = KrakenRest("https://kraken.invalid", client, metrics, KrakenClock(lambda: 1e9))
        for _ in range(5):
            with pytest.raises(TooManyRequestsError):
                await kraken.ohlc(PAIR, Timeframe.M1, 0)
        assert await kraken.ohlc(PAIR, Timeframe.M1, 0) == ()
    gaps = [later - earlier for earlier, later in pairwise(requested_at)]
    assert all(gap >= least for gap, least in zip(gaps, (0.02, 0.04, 0.08, 0.08, 0.08), strict=True))
    assert kraken.ready_at("ETH/USD") == float("-inf")


class Dripping(httpx.AsyncByteStream):
    """A response of which a byte comes now and then."""

    async def __aiter__(self):
        while True:
            await asyncio.sleep(0.01)
            yield b" "


async def test_endless_response_fails_with_the_reason(metrics, monkeypatch):
    monkeypatch.setattr(rest, "_TIME_TIMEOUT", 0.1)

    async def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Dripping())

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        kraken = KrakenRest("https://kraken.invalid", client, metrics, KrakenClock(lambda: 1e9))
        with pytest.raises(KrakenAilingError, match="no response from https://kraken"):
            await kraken.time()


async def test_a_list_without_pairs_is_an_error_and_no_pair_becomes_unknown(metrics, monkeypatch):
    monkeypatch.setattr(rest, "CALL_GAP", 0.01)

    async def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b'{"error":[],"result":{}}')

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        kraken = KrakenRest("https://kraken.invalid", client, metrics, KrakenClock(lambda: 1e9))
        with pytest.raises(RestError, match="expected pairs in Kraken's AssetPairs, got none"):
            await kraken.pair("BTC/USD")
        assert kraken.knows("BTC/USD")


async def test_date_of_a_response_is_krakens_time_until_measured(metrics):
    steady = 50.0
    time = KrakenClock(lambda: 5_000.0, lambda: steady)
    dates = iter(["Thu, 01 Jan 1970 00:20:00 GMT", "no date"])

    async def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=ROWS, headers={"date": next(dates)})

    assert time.now() == 5_000.0
    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        kraken = KrakenRest("https://kraken.invalid", client, metrics, time)
        await kraken.ohlc(PAIR, Timeframe.M1, 0)
        await kraken.ohlc(PAIR, Timeframe.M5, 0)
    steady += 3.0
    assert time.now() == 1_203.0
    assert time.offset is None
    time.learn("feed", 1_151.5)
    assert time.now() == 1_204.5


async def test_no_call_is_made_before_the_time_that_kraken_names(metrics):
    requested_at: list[float] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        requested_at.append(asyncio.get_running_loop().time())
        throttled = b'{"error":["EService:Throttled: 1000000000"]}'
        return httpx.Response(200, content=throttled if len(requested_at) == 1 else ROWS)

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        # 1.5 s before that time; a call of the same pair could be made after 1 s.
        kraken = KrakenRest("https://kraken.invalid", client, metrics, KrakenClock(lambda: 1e9 - 1.5))
        with pytest.raises(ThrottledError):
            await kraken.ohlc(PAIR, Timeframe.M1, 0)
        assert kraken.ready_at("ETH/USD") >= requested_at[0] + 1.5
        await kraken.ohlc(Pair("ETHUSD", 1), Timeframe.M1, 0)
    assert requested_at[1] >= requested_at[0] + 1.5


class ListedPairs:
    """A Kraken whose list of pairs changes, and that responds only for the class that a pair has."""

    def __init__(self) -> None:
        self.names = {"currency": "OLD", "tokenized_asset": "AAPLx"}
        self.requests: list[dict[str, str]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        self.requests.append({"endpoint": request.url.path.rpartition("/")[2], **query})
        if request.url.path.endswith("AssetPairs"):
            asset_class = query.get("aclass_base", "currency")
            base = self.names[asset_class]
            entry = {"altname": f"{base}USD", "wsname": f"{base}/USD", "pair_decimals": 1, "aclass_base": asset_class}
            return httpx.Response(200, json={"error": [], "result": {f"{base}USD": entry}})
        if query["pair"] != f"{self.names[query.get('asset_class', 'currency')]}USD":
            return httpx.Response(200, json={"error": ["EQuery:Unknown asset pair"]})
        return httpx.Response(200, content=ROWS)


async def test_pairs_are_reread_for_an_unknown_pair_or_a_changed_list(metrics, monkeypatch):
    monkeypatch.setattr(rest, "CALL_GAP", 0.0)
    listed = ListedPairs()
    async with httpx.AsyncClient(transport=httpx.MockTransport(listed)) as client:
        kraken = KrakenRest("https://kraken.invalid", client, metrics, KrakenClock(lambda: 1e9))
        stock = await kraken.pair("AAPLx/USD")
        await kraken.ohlc(stock, Timeframe.M1, 0)
        assert listed.requests[-1]["asset_class"] == "tokenized_asset"
        old = await kraken.pair("OLD/USD")
        listed.names["currency"] = "NEW"
        with pytest.raises(RestError, match="Unknown asset pair"):
            await kraken.ohlc(old, Timeframe.M1, 0)
        with pytest.raises(UnknownPairError):
            await kraken.pair("OLD/USD")
        assert await kraken.ohlc(await kraken.pair("NEW/USD"), Timeframe.M1, 0) == ()
        listed.names["currency"] = "NEWER"
        assert kraken.knows("NEW/USD")
        assert not kraken.knows("NEWER/USD")
        kraken.pairs_changed()
        assert (await kraken.pair("NEWER/USD")).name == "NEWERUSD"
        assert not kraken.knows("NEW/USD")


async def test_class_that_kraken_does_not_have_lists_no_pairs(metrics):
    async def respond(request: httpx.Request) -> httpx.Response:
        if "aclass_base" in request.url.params:
            return httpx.Response(200, json={"error": ["EGeneral:Invalid arguments"]})
        entry = {"altname": "XBTUSD", "wsname": "XBT/USD", "pair_decimals": 1}
        return httpx.Response(200, json={"error": [], "result": {"XXBTZUSD": entry}})

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        kraken = KrakenRest("https://kraken.invalid", client, metrics, KrakenClock(lambda: 1e9))
        assert (await kraken.pairs()).keys() == {"BTC/USD"}
