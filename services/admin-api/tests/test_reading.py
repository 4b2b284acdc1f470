"""Reading candles: pages, caching, formats, and what the bus and the store say together."""

import csv
import gzip
import io
import json
import re
from decimal import Decimal
from urllib.parse import urljoin

import nanoarrow
import polars as pl
import pytest
from msgspec.structs import replace

from admin_api.candles.cache import LATE_SECONDS, REFRESH_SECONDS, WINDOW_SECONDS, CandleCache
from admin_api.candles.reads import BoundedReads
from ingress_common.payloads import encode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339

HEADER = ["time", "open", "high", "low", "close", "volume", "vwap", "trades", "infilled"]


def body_of(*candles):
    head = b'{"symbol":"BTC/USD","timeframe":"%s","candles":[' % candles[0].timeframe.value.encode()
    return head + b",".join(map(encode_candle, candles)) + b"]}"


def linked(answer):
    """Where the Link header leads to, by relation."""
    return {relation: url for url, relation in re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers.get("link", ""))}


@pytest.mark.parametrize("keep", ["newest", "oldest"])
@pytest.mark.parametrize("bounded", [False, True])
async def test_link_headers_page_through_a_whole_range(world, candle, keep, bounded):
    rows = [candle(n) for n in range(-25, 0) if n % 7] + [candle(0, closed=False)]
    await world.store(*rows)
    if bounded:
        rows = rows[3:-4]
    query = f"&from={rows[0].open_time}&to={rows[-1].open_time + 1}" if bounded else ""
    async with world.running() as http:
        path = f"/candles/BTC-USD?limit=4&keep={keep}{query}"
        found, pages = [], 0
        while path:
            answer = await http.get(path)
            page = answer.json()["candles"]
            assert len(page) == 4 or not linked(answer)
            found = page + found if keep == "newest" else found + page
            link = linked(answer).get("previous" if keep == "newest" else "next")
            # Relative, so that it leads to the same place under a path prefix.
            path = urljoin(path, link) if link else None
            pages += 1
    assert [c["open_time"] for c in found] == [rfc3339(row.open_time) for row in rows]
    assert pages == -(-len(rows) // 4)


async def test_unchanged_response_gets_304(world, candle):
    await world.store(*[candle(n) for n in range(-30, 0)])
    async with world.running() as http:
        plain = {"Accept-Encoding": "identity"}
        first = await http.get("/candles/BTC-USD", headers=plain)
        tag = first.headers["etag"]
        assert re.fullmatch(r'"[0-9a-f]+"', tag)
        for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await http.get("/candles/BTC-USD", headers={**plain, "If-None-Match": given})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert (await http.get("/candles/BTC-USD", headers={**plain, "If-None-Match": '"x"'})).status_code == 200
        # What is compressed is another form of it, with a tag of its own.
        packed = await http.get("/candles/BTC-USD", headers={"Accept-Encoding": "br;q=1.0, gzip;q=0.8"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["etag"] != tag
        assert packed.content == first.content
        unpacked = await http.get("/candles/BTC-USD", headers={"Accept-Encoding": "gzip;q=0"})
        assert "content-encoding" not in unpacked.headers
        assert first.headers["vary"] == "Accept, Accept-Encoding"
        changed = candle(-1, revision=1, at=world.now)
        await world.candle(changed)
        await world.until(lambda: world.service.candles.live.newest(("BTC/USD", Timeframe.M1)))
        after = await http.get("/candles/BTC-USD", headers={**plain, "If-None-Match": tag})
        assert after.status_code == 200
        assert encode_candle(changed) in after.content


async def test_only_past_ranges_without_gaps_may_be_cached_long(world, candle):
    with_gap = [candle(n) for n in range(-200, 0) if n != -150]
    await world.store(*with_gap, candle(0, closed=False))
    async with world.running() as http:

        async def kept(start, end):
            query = f"from={candle(start).open_time}" + (f"&to={candle(end).open_time}" if end is not None else "")
            return (await http.get(f"/candles/BTC-USD?{query}")).headers["cache-control"]

        assert await kept(-140, -100) == "max-age=3600"
        assert await kept(-160, -140) == "max-age=30"
        assert await kept(-20, -10) == "max-age=30"
        assert await kept(-20, None) == "no-cache"
        assert await kept(-20, 1) == "no-cache"
        assert await kept(-20, 5) == "no-cache"
        missing = await http.get("/candles/ETH-USD")
        assert missing.headers["cache-control"] == "no-store"


async def test_a_correction_and_a_gap_that_was_filled_are_seen_at_once(world, candle):
    await world.store(*[candle(n) for n in range(-10, 0) if n != -5])
    async with world.running() as http:
        assert len((await http.get("/candles/BTC-USD")).json()["candles"]) == 9
        corrected, filled = candle(-8, revision=1, at=world.now), candle(-5, at=world.now)
        late = candle(-7, at=0.5, trades=1)
        for one in (late, corrected, filled, candle(0), candle(1, closed=False)):
            await world.candle(one)
        await world.until(lambda: world.service.candles.live.forming(("BTC/USD", Timeframe.M1)))
        answer = await http.get("/candles/BTC-USD")
    rows = [corrected if n == -8 else filled if n == -5 else candle(n) for n in range(-10, 1)]
    assert answer.content == body_of(*rows, candle(1, closed=False))


async def test_unstored_candle_is_in_every_response(world, candle):
    rows = [candle(n) for n in range(-10, 0)]
    await world.store(*rows[:-3])
    async with world.running() as http:
        for row in rows[-3:]:
            await world.candle(row)
        await world.until(lambda: world.service.candles.live.number == 3)
        assert (await http.get("/candles/BTC-USD")).content == body_of(*rows)
        assert (await http.get("/candles/BTC-USD?keep=oldest")).content == body_of(*rows)
        end = candle(-1).open_time
        assert (await http.get(f"/candles/BTC-USD?limit=4&to={end}")).content == body_of(*rows[-5:-1])


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


async def test_store_change_without_the_bus_is_visible_after_the_windows_age(world, candle):
    series = ("BTC/USD", Timeframe.M1)
    await world.store(*[candle(n) for n in range(-10, -1)])
    async with world.running():
        clock = Clock()
        recent = CandleCache(BoundedReads(world.service._store), world.service.candles.live, clock, lambda: world.now)

        async def count():
            return len((await recent.newest(series, None, None, 100)).times)

        assert await count() == 9
        await world.store(candle(-1))
        assert await count() == 9
        clock.now += WINDOW_SECONDS + 1
        assert await count() == 10
        await world.store(candle(-11))
        # Asked for all the time, it is left to the background, but not for ever.
        for _ in range(int(LATE_SECONDS / REFRESH_SECONDS)):
            clock.now += REFRESH_SECONDS
            assert await count() == 10
        clock.now += REFRESH_SECONDS
        assert await count() == 11


async def test_windows_are_bounded_together(world, candle, monkeypatch):
    monkeypatch.setattr("admin_api.candles.cache.MAX_ROWS", 25)
    names = [f"A{n}/USD" for n in range(6)]
    await world.store(*[candle(n, symbol=name) for name in names for n in range(-10, 0)])
    async with world.running() as http:
        for name in names * 2:
            answer = await http.get(f"/candles/{name.replace('/', '-')}")
            assert len(answer.json()["candles"]) == 10
            assert world.service.candles.cache.rows <= 25


@pytest.mark.parametrize("form", ["accept", "parameter"])
async def test_csv_has_the_columns_of_an_export_and_exact_decimals(world, candle, form):
    rows = [candle(n, volume=Decimal("0.10000000")) for n in range(-3, 0)]
    rows.append(candle(0, closed=False))
    await world.store(*rows)
    async with world.running() as http:
        if form == "accept":
            answer = await http.get("/candles/BTC-USD", headers={"Accept": "text/csv"})
        else:
            answer = await http.get("/candles/BTC-USD?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="BTC-USD-1m.csv"'
    table = list(csv.reader(io.StringIO(answer.text)))
    assert table[0] == HEADER
    times = [str(row.open_time) for row in rows[:-1]]
    assert table[1:] == [
        [time, "51600.10", "51610.0", "51600.1", "51605.2", "0.10000000", "51604.3", "17", "0"] for time in times
    ]


@pytest.mark.parametrize("keep", ["newest", "oldest"])
@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("form", ["csv", "arrow", "parquet"])
async def test_link_headers_page_through_a_whole_range_in_every_format(world, candle, keep, bounded, form):
    made = [candle(n, trades=n + 100) for n in range(-25, 0) if n % 7]
    await world.store(*made, candle(0, closed=False))
    made = made[2:-3] if bounded else made
    query = f"&from={made[0].open_time}&to={made[-1].open_time + 1}" if bounded else ""
    async with world.running() as http:
        path = f"/candles/BTC-USD?limit=4&keep={keep}&format={form}{query}&numbers=decimal"
        found, pages = [], 0
        while path:
            answer = await http.get(path)
            page = [int(row["trades"]) for row in rows_of(answer, form)]
            assert len(page) == 4 or not linked(answer)
            found = page + found if keep == "newest" else found + page
            link = linked(answer).get("previous" if keep == "newest" else "next")
            assert link is None or "numbers=decimal" in link
            path = urljoin(path, link) if link else None
            pages += 1
    assert found == [one.trades for one in made]
    assert pages == -(-len(made) // 4)


async def test_a_link_of_many_pages_has_the_rest_of_the_range(world, candle):
    await world.store(*[candle(n) for n in range(-5000, 0)])
    async with world.running() as http:
        for keep, relation, edge in (("newest", "previous", "to"), ("oldest", "next", "from")):
            answer = await http.get(f"/candles/BTC-USD?limit=4500&keep={keep}", headers={"Accept": "text/csv"})
            link = linked(answer)[relation]
            assert f"&{edge}={candle(-4500 if keep == 'newest' else -500).open_time}" in link
            rest = await http.get(urljoin("/candles/BTC-USD", link), headers={"Accept": "text/csv"})
            assert len(rows_of(rest, "csv")) == 500
            assert not linked(rest)


def rows_of(answer, form):
    """The rows of a bulk response."""
    if form == "csv":
        return list(csv.DictReader(io.StringIO(answer.text)))
    if form == "parquet":
        return pl.read_parquet(io.BytesIO(answer.content)).to_dicts()
    return nanoarrow.ArrayStream.from_readable(io.BytesIO(answer.content)).read_all().to_pylist()


@pytest.mark.parametrize("query", ["", "&keep=oldest", "&from=0", "&limit=5000", "&limit=4999", "&limit=1", "&to=1"])
@pytest.mark.parametrize("form", ["csv", "arrow", "parquet"])
async def test_bulk_read_equals_json_over_many_pages(world, candle, query, form):
    made = [candle(n, trades=n + 6000) for n in range(-5000, 0)]
    await world.store(*made)
    async with world.running() as http:
        limit = "" if "limit" in query else "&limit=100000"
        answer = await http.get(f"/candles/BTC-USD?format={form}{query}{limit}")
        expected = made if "limit" not in query else made[-int(query.partition("=")[2]) :]
        expected = [] if query == "&to=1" else expected
    table = rows_of(answer, form)
    assert all(set(row) == set(HEADER) for row in table)
    assert [int(row["trades"]) for row in table] == [c.trades for c in expected]


async def test_arrow_holds_the_numbers_of_the_candles(world, candle):
    made = [candle(-2), replace(candle(-1), infilled=True, trades=0, volume=Decimal(0))]
    await world.store(*made)
    async with world.running() as http:
        answer = await http.get("/candles/BTC-USD", headers={"Accept": "application/vnd.apache.arrow.stream"})
    first, second = nanoarrow.ArrayStream.from_readable(io.BytesIO(answer.content)).read_all().to_pylist()
    assert first["time"].timestamp() == made[0].open_time
    assert (first["open"], first["high"], first["low"], first["close"]) == (51600.1, 51610.0, 51600.1, 51605.2)
    assert (first["volume"], first["vwap"], first["trades"], first["infilled"]) == (1.2048, 51604.3, 17, False)
    assert (second["infilled"], second["trades"]) == (True, 0)


@pytest.mark.parametrize("vwap", ["51604.3123456789012", "0.00001234567890123456789", "0.000000000100000000000000001"])
@pytest.mark.parametrize("form", ["arrow", "parquet"])
async def test_decimals_are_exact_on_request(world, candle, form, vwap):
    made = candle(-1, volume=Decimal("0.00000012"), low=Decimal("0.0000000001"), vwap=Decimal(vwap))
    await world.store(made)
    async with world.running() as http:
        answer = await http.get(f"/candles/BTC-USD?format={form}&numbers=decimal")
        wrong = await http.get(f"/candles/BTC-USD?format={form}&numbers=text")
    read = pl.read_parquet if form == "parquet" else pl.read_ipc_stream
    (row,) = read(io.BytesIO(answer.content)).to_dicts()
    for name in ("open", "high", "low", "close", "volume", "vwap"):
        assert row[name] == getattr(made, name)
    assert row["time"].timestamp() == made.open_time
    assert wrong.status_code == 422


@pytest.mark.parametrize(
    ("accept", "status", "kind"),
    [
        ("*/*", 200, "application/json"),
        ("text/html,application/json;q=0.9", 200, "application/json"),
        ("text/csv;q=0.9", 200, "text/csv"),
        ("application/vnd.apache.parquet", 200, "application/vnd.apache.parquet"),
        ("image/png", 406, "application/problem+json"),
    ],
)
async def test_the_format_follows_the_header_accept(world, candle, accept, status, kind):
    await world.store(candle())
    async with world.running() as http:
        answer = await http.get("/candles/BTC-USD", headers={"Accept": accept})
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith(kind)
        assert (await http.get("/candles/ETH-USD?format=csv")).status_code == 404


async def test_symbols_are_searched_and_paged(world, candle):
    names = ["ADA/USD", "BTC/EUR", "BTC/USD", "ETH/BTC", "ETH/USD"]
    await world.store(*[candle(symbol=name) for name in names])
    async with world.running() as http:

        async def found(query):
            body = (await http.get(f"/symbols?{query}")).json()
            return [entry["symbol"] for entry in body["symbols"]], body["total"]

        assert await found("") == (names, 5)
        assert await found("search=btc") == (["BTC/EUR", "BTC/USD", "ETH/BTC"], 3)
        assert await found("search=btc-u") == (["BTC/USD"], 1)
        assert await found("search=xyz") == ([], 0)
        assert await found("limit=2&offset=1") == (["BTC/EUR", "BTC/USD"], 5)
        assert await found("search=btc&limit=2&offset=2") == (["ETH/BTC"], 3)
        assert await found("offset=9") == ([], 5)


async def test_large_response_decompresses_to_the_original(world, candle):
    await world.store(*[candle(n) for n in range(-1000, 0)])
    async with world.running() as http:
        request = http.build_request("GET", "/candles/BTC-USD?limit=1000", headers={"Accept-Encoding": "gzip"})
        answer = await http.send(request, stream=True)
        packed = b"".join([part async for part in answer.aiter_raw()])
    assert len(json.loads(gzip.decompress(packed))["candles"]) == 1000
    assert len(packed) < 100_000
