"""What a client may ask for, who may change something, and what every answer brings along."""

import asyncio

import httpx
import pytest
from starlette.exceptions import HTTPException

from admin_api.candles.reads import BoundedReads, BusyError
from admin_api.candles.symbols import KEPT_SECONDS, STALE_SECONDS, StoredSymbols
from admin_api.http.limits import MAX_BODY, TokenBuckets
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from waiting import until

PROBLEM = "application/problem+json"
LIMITS = {"rate_limit": 0.001, "rate_burst": 3}


def test_token_bucket_allows_the_burst_then_the_rate():
    buckets = TokenBuckets(rate=10, burst=3)
    assert [buckets.take("a", 0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", 0) == pytest.approx(0.1)
    assert buckets.take("b", 0) == 0
    assert buckets.take("a", 0.1) == 0
    assert buckets.take("a", 0.1) > 0
    assert [buckets.take("a", 1000) for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]


def test_least_recently_used_addresses_are_forgotten():
    buckets = TokenBuckets(rate=1, burst=1)
    for number in range(20_000):
        buckets.take(str(number), 0)
    assert len(buckets._buckets) == 10_000
    assert buckets.take("19999", 0) > 0
    assert buckets.take("0", 0) == 0


async def test_too_many_requests_are_refused_but_those_of_probes(world):
    async with world.running(**LIMITS) as http:
        answers = [await http.get("/bootstrap") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[-1].headers["content-type"] == PROBLEM
        assert int(answers[-1].headers["retry-after"]) >= 1
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert (await http.get(path)).status_code == 200
        assert 'ingress_admin_refused_total{status="429"} 2.0' in (await http.get("/metrics")).text


async def test_each_address_has_its_own_rate_also_behind_a_proxy_that_is_trusted(world):
    async with world.running(trusted_proxies=("127.0.0.1",), **LIMITS):
        await world.until(lambda: world.service.port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.service.port}") as http:
            for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
                got = [
                    (await http.get("/bootstrap", headers={"X-Forwarded-For": address})).status_code for _ in range(4)
                ]
                assert got == [200, 200, 200, 429]
            # One customer has a network of 64 bits.
            same = await http.get("/bootstrap", headers={"X-Forwarded-For": "2001:db8::ffff:2"})
            assert same.status_code == 429


async def test_forwarded_address_of_an_untrusted_proxy_is_ignored(world):
    async with world.running(**LIMITS):
        await world.until(lambda: world.service.port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.service.port}") as http:
            got = [
                (await http.get("/bootstrap", headers={"X-Forwarded-For": f"192.0.2.{n}"})).status_code
                for n in range(4)
            ]
    assert got == [200, 200, 200, 429]


async def test_a_body_that_is_too_large_is_refused_with_and_without_its_length_in_a_header(world):
    async def parts():
        for _ in range(3):
            yield b"x" * (MAX_BODY // 2)

    async with world.running() as http:
        declared = await http.post("/bootstrap", content=b"x" * (MAX_BODY + 1))
        assert declared.status_code == 413
        assert declared.headers["content-type"] == PROBLEM
        assert (await http.post("/bootstrap", content=b"x" * MAX_BODY)).status_code == 401
        assert (await http.post("/bootstrap", content=parts())).status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/candles/BTC-USD?limit=" + "1" * 9000, 414),
        ("/" + "a" * 9000, 414),
        ("/candles/BTC-USD?limit=" + "1" * 4000, 422),
        ("/candles/BTC-USD?limit=%D9%A3", 422),
        ("/candles/BTC-USD?limit=1_0", 422),
        ("/candles/BTC-USD?limit=+5", 422),
        ("/candles/BTC-USD?limit=-0", 422),
        ("/candles/BTC-USD?from=%00", 422),
        ("/candles/%00-USD", 422),
        ("/candles/BTC%2FUSD", 404),
        ("/candles/..%2f..%2fetc", 404),
        ("/candles/%E2%82%BF-USD", 404),
        ("/candles/BTC-%22%0D%0AX: y", 404),
        ("/candles/" + "A" * 65, 422),
        ("/candles/BTC-USD?from=" + "9" * 400, 422),
        ("/candles/BTC-USD?from=0x10", 422),
        ("/candles/BTC-USD?from=1e400", 422),
        ("/candles/BTC-USD?from=9999-12-31T23:59:59-14:00", 422),
        ("/candles/BTC-USD?timeframe=" + "m" * 5000, 422),
        ("/candles/BTC-USD?timeframe=1m&timeframe=5m", 422),
        ("/candles/BTC-USD?format=xlsx", 422),
        ("/candles/BTC-USD?keep=all", 422),
        ("/candles/BTC-USD?limit=5001", 422),
        ("/candles/BTC-USD?limit=100001&format=csv", 422),
        ("/symbols?search=" + "b" * 41, 422),
        ("/symbols?limit=0", 422),
        ("/symbols?offset=-1", 422),
        ("/symbols?offset=99999999999999999999", 422),
        ("/candles/BTC-USD/", 404),
        ("/candles/BTC-USD/x", 404),
        ("//candles/BTC-USD", 404),
        ("/metrics/", 404),
    ],
)
async def test_hostile_parameters_get_a_short_problem(world, candle, path, status):
    await world.store(candle())
    async with world.running() as http:
        answer = await http.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == PROBLEM
    body = answer.json()
    assert len(answer.content) < 1500
    assert (status == 422) == ("errors" in body)
    assert all(set(error) == {"name", "detail"} for error in body.get("errors", []))


async def test_head_is_get_without_a_body_and_options_lists_the_methods(world, candle):
    await world.store(candle())
    async with world.running():
        await world.until(lambda: world.service.port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.service.port}") as http:
            got, head = await http.get("/candles/BTC-USD"), await http.head("/candles/BTC-USD")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == got.headers["content-length"]
            assert head.headers["etag"] == got.headers["etag"]
            for path, allowed in (
                ("/bootstrap", "GET, HEAD, OPTIONS, POST"),
                ("/candles/BTC-USD", "GET, HEAD, OPTIONS"),
                ("/stream", "GET, OPTIONS"),
            ):
                options = await http.options(path)
                assert (options.status_code, options.headers["allow"]) == (204, allowed)
            stream = await http.head("/stream")
            assert (stream.status_code, stream.headers["allow"]) == (405, "GET, OPTIONS")
            for method in ("PUT", "DELETE", "PATCH", "TRACE", "FOO"):
                answer = await http.request(method, "/bootstrap")
                assert answer.status_code in (400, 405), method
                assert answer.headers["content-type"] == PROBLEM
            assert (await http.put("/bootstrap")).headers["allow"] == "GET, HEAD, OPTIONS, POST"
            assert (await http.options("/nowhere")).status_code == 404
            assert (await http.head("/nowhere")).status_code == 404


async def test_other_origins_may_read_only_if_listed(world, candle):
    await world.store(candle())
    headers = {"Origin": "https://example.org"}
    async with world.running() as http:
        answer = await http.get("/candles/BTC-USD", headers=headers)
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    async with world.running(cors_origins=("https://example.org",)) as http:
        answer = await http.get("/candles/BTC-USD", headers=headers)
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        other = await http.get("/candles/BTC-USD", headers={"Origin": "https://example.com"})
        assert "access-control-allow-origin" not in other.headers
        flight = {**headers, "Access-Control-Request-Method": "GET"}
        assert (await http.options("/candles/BTC-USD", headers=flight)).status_code == 200


async def test_every_response_has_security_headers(world):
    async with world.running() as http:
        for path in ("/health", "/nowhere", "/symbols", "/metrics"):
            headers = (await http.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert (await http.get("/docs")).headers["content-security-policy"].startswith("default-src 'self'; ")


async def test_service_stops_promptly_with_a_running_request(world):
    async with world.running():
        await world.until(lambda: world.service.port)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.service.port)
        # Once the first is answered the second one, which never ends, is under way.
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write(b"POST /bootstrap HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
        assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
        world.task.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([world.task])
        writer.transport.abort()


async def test_streams_of_one_address_are_limited_and_another_one_gets_its_own(world):
    limits = {"max_streams": 10, "max_streams_per_address": 2}
    async with world.running(trusted_proxies=("127.0.0.1",), **limits):
        streams = world.service.candles.streams
        opened = [streams.subscribe(None, frozenset(TIMEFRAMES), "10.0.0.1") for _ in range(2)]
        with pytest.raises(HTTPException, match="from one address"):
            streams.subscribe(None, frozenset(TIMEFRAMES), "10.0.0.1")
        streams.release(streams.subscribe(None, frozenset(TIMEFRAMES), "10.0.0.2"))
        streams.release(opened[0])
        streams.release(streams.subscribe(None, frozenset(TIMEFRAMES), "10.0.0.1"))
        streams.release(opened[1])


class SlowStore:
    """Answers when it is let, and counts."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.under_way = self.most = self.reads = 0

    async def candles(self, *_arguments, **_options):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.let.wait()
        self.under_way -= 1
        return []

    newest_candles = forming = candles

    async def symbols(self):
        self.reads += 1
        await self.let.wait()
        return ["BTC/USD"]

    async def latest(self):
        return []


async def test_reads_under_way_are_bounded_and_further_ones_wait_or_are_refused():
    store = SlowStore()
    reads = BoundedReads(store, reads=3, waiting=5)
    tasks = [asyncio.create_task(reads.candles("BTC/USD", Timeframe.M1, limit=1)) for _ in range(8)]
    await until(lambda: store.under_way == 3)
    with pytest.raises(BusyError):
        await reads.candles("BTC/USD", Timeframe.M1, limit=1)
    store.let.set()
    assert await asyncio.gather(*tasks) == [[]] * 8
    assert store.most == 3
    assert await reads.candles("BTC/USD", Timeframe.M1, limit=1) == []


async def test_symbols_are_read_once_for_concurrent_requests():
    store, now = SlowStore(), 0.0
    symbols = StoredSymbols(BoundedReads(store), lambda: now)
    tasks = [asyncio.create_task(symbols.series()) for _ in range(100)]
    store.let.set()
    assert await asyncio.gather(*tasks) == [{"BTC/USD": []}] * 100
    assert store.reads == 1
    now += KEPT_SECONDS + 0.1
    await symbols.series()
    assert store.reads == 2


async def test_stale_list_of_symbols_is_served_during_a_refresh():
    store, now = SlowStore(), 0.0
    symbols = StoredSymbols(BoundedReads(store), lambda: now)
    store.let.set()
    assert await symbols.recent() == {"BTC/USD": []}
    store.let.clear()
    async with asyncio.TaskGroup() as tasks:
        refreshing = tasks.create_task(symbols.refresh())
        now += KEPT_SECONDS + 0.1
        assert await symbols.recent() == {"BTC/USD": []}
        await until(lambda: store.reads == 2)
        assert await symbols.recent() == {"BTC/USD": []}
        refreshing.cancel()


async def test_request_waits_if_the_list_of_symbols_is_too_old():
    store, now = SlowStore(), 0.0
    symbols = StoredSymbols(BoundedReads(store), lambda: now)
    store.let.set()
    await symbols.recent()
    now += STALE_SECONDS + 0.1
    assert await symbols.recent() == {"BTC/USD": []}
    assert store.reads == 2
