import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest
from gateway_world import SkippingLoop

from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.rest import KrakenRest
from kraken_gateway.kraken.rest_watch import RestWatch

RESPONDS = b'{"error":[],"result":{"unixtime":1}}'


@asynccontextmanager
async def watching(respond, metrics):
    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        watch = RestWatch(KrakenRest("https://kraken.invalid", client, metrics, KrakenClock(lambda: 1e9)))
        task = asyncio.create_task(watch.run())
        yield watch
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def run(test) -> None:
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(test)


async def hangs(request: httpx.Request) -> httpx.Response:
    await asyncio.sleep(3600)
    raise AssertionError


async def fails(request: httpx.Request) -> httpx.Response:
    return httpx.Response(503, content=b"<html>")


@pytest.mark.parametrize("respond", [hangs, fails])
def test_failure_shows_within_seconds_and_counts_from_its_first_call(metrics, respond):
    async def test() -> None:
        async with watching(respond, metrics) as watch:
            await asyncio.sleep(8.5)
            assert watch.problem
            await asyncio.sleep(4.0)
            assert watch.failing > 8.0

    run(test())


@pytest.mark.parametrize("error", [b"EGeneral:Unknown method", b"EGeneral:Too many requests", b"EService:Throttled: 1"])
def test_any_response_of_kraken_shows_that_it_responds(metrics, error):
    async def refuses(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b'{"error":["' + error + b'"]}')

    async def test() -> None:
        async with watching(refuses, metrics) as watch:
            await asyncio.sleep(60.0)
            assert (watch.problem, watch.failing) == ("", 0.0)

    run(test())


def test_no_call_is_made_while_kraken_wants_none(metrics):
    calls = 0

    async def throttles(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        return httpx.Response(200, content=b'{"error":["EService:Throttled: 1000000300"]}')

    async def test() -> None:
        async with watching(throttles, metrics):
            await asyncio.sleep(200.0)
            assert calls == 1

    run(test())


def test_failure_ends_with_the_first_response(metrics):
    responses = [fails, fails]

    async def recovers(request: httpx.Request) -> httpx.Response:
        return await responses.pop()(request) if responses else httpx.Response(200, content=RESPONDS)

    async def test() -> None:
        async with watching(recovers, metrics) as watch:
            await asyncio.sleep(9.0)
            assert watch.failing
            await asyncio.sleep(4.0)
            assert (watch.problem, watch.failing) == ("", 0.0)

    run(test())


def test_while_other_calls_have_results_it_makes_none(metrics):
    called = []

    async def responds(request: httpx.Request) -> httpx.Response:
        called.append(request.url.path)
        return httpx.Response(200, content=RESPONDS)

    async def test() -> None:
        async with watching(responds, metrics) as watch:
            for _ in range(20):
                watch._rest.responded_at = asyncio.get_running_loop().time()
                await asyncio.sleep(3.0)
            assert not called
            await asyncio.sleep(8.5)
            assert called

    run(test())
