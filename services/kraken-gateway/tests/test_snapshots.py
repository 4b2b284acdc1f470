"""Standing snapshot connections: many snapshots on one socket, and what becomes of those that do not come."""

import asyncio
import time

import pytest

from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from kraken_gateway.backfill import snapshots
from kraken_gateway.backfill.snapshots import Rejected, Snapshot, Snapshots
from kraken_gateway.kraken.connection import Kraken
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.limits import ConnectionLimiter
from kraken_gateway.publisher import Publisher

M5 = Timeframe.M5


def rows_of(symbol: str) -> list[dict]:
    begin = int(time.time() // 300) * 300
    return [{"symbol": symbol, "begin": begin - 300 * n, "interval": 5} for n in range(9, -1, -1)]


@pytest.fixture
async def reader(fake_kraken, open_bus, metrics):
    """The standing connections; the scripted Kraken sends snapshots of 5m."""

    async def script(client) -> None:
        client.snapshot_rows = rows_of
        await client.serve()

    fake_kraken.scripts = [script]
    kraken = Kraken(fake_kraken.url, ConnectionLimiter(time.monotonic), KrakenClock(time.time), metrics)
    async with open_bus("requests", None) as bus:
        all_of_them = Snapshots(kraken, Publisher(bus, Topics(), metrics, "kraken"), metrics)
        task = asyncio.create_task(all_of_them.of(M5).run())
        yield all_of_them.of(M5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def requests(fake_kraken, method: str) -> list[list[str]]:
    return [r["params"]["symbol"] for c in fake_kraken.clients for r in c.requests if r["method"] == method]


async def read(reader, *symbols: str) -> dict[str, Snapshot]:
    results = await asyncio.wait_for(asyncio.gather(*map(reader.read, symbols)), 20)
    return {result.symbol: result for result in results}


async def test_snapshots_use_one_connection_and_messages_of_a_hundred_symbols(reader, fake_kraken):
    symbols = [f"S{n:03}/USD" for n in range(250)]
    found = await read(reader, *symbols)
    assert {symbol: len(snapshot.rows) for symbol, snapshot in found.items()} == dict.fromkeys(symbols, 10)
    assert [len(chunk) for chunk in requests(fake_kraken, "subscribe")] == [100, 100, 50]
    assert fake_kraken.attempts == 1


async def test_every_subscription_is_ended_and_a_second_read_needs_no_connection(reader, fake_kraken):
    first = await read(reader, "A/USD")
    second = await read(reader, "A/USD", "B/USD")
    assert second["A/USD"].taken > first["A/USD"].taken
    async with asyncio.timeout(5):
        while len([s for chunk in requests(fake_kraken, "unsubscribe") for s in chunk]) < 3:
            await asyncio.sleep(0.01)
    assert fake_kraken.attempts == 1


async def test_concurrent_reads_of_a_symbol_are_one(reader, fake_kraken):
    assert reader.read("A/USD") is reader.read("A/USD")
    await read(reader, "A/USD")
    assert requests(fake_kraken, "subscribe") == [["A/USD"]]


async def test_urgent_read_precedes_waiting_ones(reader, fake_kraken):
    for number in range(150):
        reader.read(f"S{number:03}/USD")
    await asyncio.wait_for(reader.read("A/USD", urgent=True), 10)
    assert requests(fake_kraken, "subscribe")[0][0] == "A/USD"


async def test_symbol_that_kraken_refuses_is_rejected_and_the_others_are_read(reader, fake_kraken):
    async def script(client) -> None:
        client.snapshot_rows = rows_of
        client.refusals = {"XBT/USD": "Currency pair not supported XBT/USD"}
        await client.serve()

    fake_kraken.scripts = [script]
    found = await read(reader, "A/USD", "XBT/USD")
    assert found["XBT/USD"] == Rejected("XBT/USD", "Currency pair not supported XBT/USD")
    assert found["A/USD"].rows


async def test_lost_connection_is_reopened_and_pending_reads_continue(reader, fake_kraken):
    async def cut(client) -> None:
        await client.socket.recv()
        await client.socket.recv()
        client.socket.transport.abort()

    async def script(client) -> None:
        client.snapshot_rows = rows_of
        await client.serve()

    fake_kraken.scripts = [cut, script]
    assert (await read(reader, "A/USD"))["A/USD"].rows
    assert fake_kraken.attempts == 2


async def test_symbol_that_is_acked_twice_without_a_snapshot_never_traded(reader, fake_kraken, monkeypatch):
    monkeypatch.setattr(snapshots, "RESPONSE_SECONDS", 0.3)

    async def script(client) -> None:
        client.snapshot_rows = lambda symbol: [] if symbol == "NEW/USD" else rows_of(symbol)
        await client.serve()

    fake_kraken.scripts = [script]
    assert (await read(reader, "NEW/USD"))["NEW/USD"].rows == ()
    assert requests(fake_kraken, "subscribe").count(["NEW/USD"]) == 2
    assert fake_kraken.attempts == 1


async def test_connection_without_snapshot_of_a_traded_symbol_is_replaced(reader, fake_kraken, monkeypatch):
    monkeypatch.setattr(snapshots, "RESPONSE_SECONDS", 0.3)

    async def goes_stale(client) -> None:
        client.snapshot_rows = lambda symbol: rows_of(symbol) if len(client.subscribed()) == 1 else []
        await client.serve()

    async def script(client) -> None:
        client.snapshot_rows = rows_of
        await client.serve()

    fake_kraken.scripts = [goes_stale, script]
    assert (await read(reader, "A/USD"))["A/USD"].rows
    assert (await read(reader, "A/USD"))["A/USD"].rows
    assert fake_kraken.attempts == 2


async def test_malformed_row_becomes_a_dead_letter_and_its_snapshot_is_reread(
    reader, fake_kraken, listener, monkeypatch
):
    monkeypatch.setattr(snapshots, "RESPONSE_SECONDS", 0.3)

    async def script(client) -> None:
        def rows(symbol: str) -> list[dict]:
            found = rows_of(symbol)
            if len(client.subscribed()) == 1:
                found[3]["high"] = "1.0"
            return found

        client.snapshot_rows = rows
        await client.serve()

    fake_kraken.scripts = [script]
    assert len((await read(reader, "A/USD"))["A/USD"].rows) == 10
    assert listener.of("dead-letter")
