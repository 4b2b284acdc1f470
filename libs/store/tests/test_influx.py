"""What is special about InfluxDB: rejected lines, tokens, what bootstrap makes there, servers with problems."""

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.tls import TlsFiles
from ingress_store import (
    InfluxAccess,
    InfluxStore,
    InfluxUrl,
    Retention,
    StoreOpenError,
    StoreUnavailableError,
    backfill_flux,
)
from ingress_store.influx.names import READER_TOKEN, WRITER_TOKEN
from ingress_store.influx.server import RefusedError, Server
from waiting import until

FOREVER = Retention(dict.fromkeys(TIMEFRAMES), ticks=None)


@pytest.fixture
def access(influx_place: Any) -> InfluxAccess:
    return InfluxAccess(f"test-{uuid4().hex[:12]}", influx_place.token)


@pytest.fixture
async def store(influx_place: Any, access: InfluxAccess) -> AsyncIterator[InfluxStore]:
    async with InfluxStore(influx_place.store_url, access, retention=FOREVER) as store:
        await store.bootstrap()
        yield store


@pytest.fixture
async def server(influx_place: Any, access: InfluxAccess) -> AsyncIterator[Server]:
    """The server's own interface, to look behind the store."""
    async with Server(influx_place.store_url.http, access, influx_place.url) as server:
        yield server


async def org_id(server: Server, access: InfluxAccess) -> str:
    return str((await server.get("orgs", org=access.org))["orgs"][0]["id"])


async def everything(server: Server, access: InfluxAccess) -> dict[str, list[dict[str, Any]]]:
    """Buckets, tasks and tokens of the organisation."""
    own = await org_id(server, access)
    buckets = (await server.get("buckets", orgID=own, limit=100))["buckets"]
    return {
        "buckets": [bucket for bucket in buckets if bucket["type"] == "user"],
        "tasks": (await server.get("tasks", orgID=own))["tasks"],
        "tokens": (await server.get("authorizations", orgID=own))["authorizations"],
    }


def names(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    tokens = [token["description"] for token in found["tokens"]]
    return sorted([entry["name"] for kind in ("buckets", "tasks") for entry in found[kind]] + tokens)


async def test_a_wrong_token_ends_in_one_line_that_names_the_setting(influx_place):
    with pytest.raises(StoreOpenError, match="INFLUX_TOKEN") as caught:
        async with InfluxStore(influx_place.store_url, InfluxAccess("org", "a wrong token")):
            pass
    assert "\n" not in str(caught.value)
    assert "a wrong token" not in str(caught.value)


async def test_missing_organisation_is_reported_as_unavailable(influx_place, access, candle):
    async with InfluxStore(influx_place.store_url, access, retention=FOREVER) as store:
        with pytest.raises(StoreUnavailableError, match=access.org):
            await store.write([candle()], [])
        await store.bootstrap()
        assert (await store.write([candle()], [])).taken == 1


async def test_a_server_that_is_not_there_is_no_reason_not_to_open(candle):
    async with InfluxStore(InfluxUrl.parse("influxdb://127.0.0.1:1"), InfluxAccess("org", "token")) as store:
        for call in (store.ping, store.symbols, store.bootstrap, store.inspect, store.tasks):
            with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1"):
                await call()
        with pytest.raises(StoreUnavailableError):
            await store.write([candle()], [])


async def test_an_organisation_is_found_by_its_id_and_none_is_made_of_that_name(influx_place, access, server, candle):
    async with InfluxStore(influx_place.store_url, access, retention=FOREVER) as store:
        await store.bootstrap()
        await store.write([candle(0)], [])
    (org,) = (await server.get("orgs", org=access.org))["orgs"]
    for name in (org["id"], org["id"].upper()):
        async with InfluxStore(
            influx_place.store_url, dataclasses.replace(access, org=name), retention=FOREVER
        ) as store:
            state = await store.inspect()
            assert state.complete, state.difference
            assert (await store.bootstrap()).changes == ()
            assert len(await store.candles("BTC/USD", Timeframe.M1, limit=10)) == 1
    unknown = ("0123456789abcdef", "0123456789ABCDEF")
    for name in unknown:
        async with InfluxStore(
            influx_place.store_url, dataclasses.replace(access, org=name), retention=FOREVER
        ) as store:
            with pytest.raises(StoreUnavailableError, match="no organisation of that ID"):
                await store.bootstrap()
    names = {found["name"] for found in (await server.get("orgs", limit=100))["orgs"]}
    assert not names & {org["id"], org["id"].upper(), *unknown}


async def test_candles_are_written_and_read_over_tls(influx_of, certificates, candle):
    place = influx_of(certificates).place
    trusted = InfluxAccess("tls", place.token, TlsFiles(certificates.ca))
    async with InfluxStore(place.store_url, trusted, retention=FOREVER) as store:
        await store.bootstrap()
        await store.write([candle(0)], [])
        assert len(await store.candles("BTC/USD", Timeframe.M1, limit=10)) == 1
    for files in (TlsFiles(), TlsFiles(certificates.stranger)):
        async with InfluxStore(place.store_url, dataclasses.replace(trusted, tls=files), retention=FOREVER) as store:
            with pytest.raises(StoreUnavailableError, match=r"certificate is not trusted.*INFLUX_CA_FILE"):
                await store.ping()
    async with InfluxStore(
        InfluxUrl.parse(place.url.replace("influxdbs", "influxdb")), trusted, retention=FOREVER
    ) as store:
        with pytest.raises(StoreUnavailableError):
            await store.ping()


async def test_a_port_without_tls_is_named(influx_place, access, certificates):
    url = InfluxUrl.parse(influx_place.url.replace("influxdb:", "influxdbs:"))
    async with InfluxStore(url, dataclasses.replace(access, tls=TlsFiles(certificates.ca)), retention=FOREVER) as store:
        with pytest.raises(StoreUnavailableError, match="TLS"):
            await store.ping()


async def test_bootstrap_ten_times_and_two_at_once_makes_one_set(influx_place, access, server):
    async with InfluxStore(influx_place.store_url, access) as one, InfluxStore(influx_place.store_url, access) as other:
        await asyncio.gather(*(store.bootstrap() for store in (one, other)))
        for _ in range(5):
            await asyncio.gather(*(store.bootstrap() for store in (one, other)))
        result = await one.bootstrap()
    assert result.changes == ()
    assert result.state.complete
    timeframes = [timeframe.value for timeframe in Timeframe]
    expected = [f"candles_{t}" for t in timeframes] + [f"downsample_{t}" for t in timeframes[1:]]
    assert names(await everything(server, access)) == sorted([*expected, "ticks_1m", READER_TOKEN, WRITER_TOKEN])


async def test_changed_or_deleted_resources_are_restored_and_foreign_ones_untouched(store, server, access):
    own = await org_id(server, access)
    before = await everything(server, access)
    await server.post("buckets", {"orgID": own, "name": "mine", "retentionRules": []})
    await server.post("tasks", {"orgID": own, "flux": _FOREIGN_TASK})
    by_name = {entry["name"]: entry for kind in ("buckets", "tasks") for entry in before[kind]}
    rule = {"type": "expire", "everySeconds": 7200, "shardGroupDurationSeconds": 3600}
    await server.patch(f"buckets/{by_name['candles_5m']['id']}", {"retentionRules": [rule]})
    await server.delete(f"buckets/{by_name['candles_1h']['id']}")
    await server.delete(f"tasks/{by_name['downsample_1w']['id']}")
    await server.patch(f"tasks/{by_name['downsample_5m']['id']}", {"status": "inactive"})
    text = by_name["downsample_15m"]["flux"].replace("children == 3", "children == 2")
    await server.patch(f"tasks/{by_name['downsample_15m']['id']}", {"flux": text})
    tokens = {token["description"]: token for token in before["tokens"]}
    await server.delete(f"authorizations/{tokens[READER_TOKEN]['id']}")
    state = await store.inspect()
    assert {(row.name, row.state.value) for row in state.difference} == {
        ("candles_5m", "different"),
        ("candles_1h", "missing"),
        ("downsample_1w", "missing"),
        ("downsample_5m", "different"),
        ("downsample_15m", "different"),
        (READER_TOKEN, "missing"),
        # Its rights are those to our buckets, and one of them is gone.
        (WRITER_TOKEN, "different"),
    }
    result = await store.bootstrap()
    assert len(result.changes) == 7
    assert result.state.complete
    foreign = {row.name for row in result.state.resources if row.state.value == "foreign"}
    assert foreign == {"mine", "somebody's", f"{WRITER_TOKEN}, superseded"}
    after = {
        entry["name"]: entry
        for kind, found in (await everything(server, access)).items()
        if kind != "tokens"
        for entry in found
    }
    assert after["downsample_15m"]["flux"] == by_name["downsample_15m"]["flux"]
    assert after["mine"]


async def test_a_second_task_of_our_name_is_removed_and_the_oldest_kept(store, server, access):
    own = await org_id(server, access)
    task = next(t for t in (await everything(server, access))["tasks"] if t["name"] == "downsample_4h")
    await server.post("tasks", {"orgID": own, "flux": task["flux"]})
    result = await store.bootstrap()
    assert result.changes == ("removed a second task downsample_4h",)
    kept = [t["id"] for t in (await everything(server, access))["tasks"] if t["name"] == "downsample_4h"]
    assert kept == [task["id"]]


async def test_a_renamed_token_stays_and_gets_a_successor(store, server, access):
    first = next(t for t in (await everything(server, access))["tokens"] if t["description"] == WRITER_TOKEN)
    await server.patch(f"authorizations/{first['id']}", {"description": f"{WRITER_TOKEN}, superseded"})
    assert (await store.bootstrap()).changes == (f"created token {WRITER_TOKEN}",)
    tokens = {t["description"]: t["id"] for t in (await everything(server, access))["tokens"]}
    assert tokens[f"{WRITER_TOKEN}, superseded"] == first["id"] != tokens[WRITER_TOKEN]


async def test_a_changed_retention_setting_changes_the_bucket(influx_place, access, store):
    changed = dataclasses.replace(FOREVER, ticks=86400)
    async with InfluxStore(influx_place.store_url, access, retention=changed) as other:
        assert (await other.bootstrap()).changes == ("changed bucket ticks_1m",)


async def test_no_secret_is_shown(store, server, access):
    secrets = [token["token"] for token in (await everything(server, access))["tokens"]]
    shown = json.dumps([row.as_json() for row in (await store.inspect()).resources])
    assert len(secrets) == 2
    assert not any(secret in shown for secret in secrets)


async def test_the_writers_token_reads_and_writes_our_buckets_only_and_the_readers_only_reads(
    influx_place, access, store, server, candle
):
    own = await org_id(server, access)
    await server.post("buckets", {"orgID": own, "name": "mine", "retentionRules": []})
    tokens = {t["description"]: t["token"] for t in (await everything(server, access))["tokens"]}
    writing, reading = (InfluxAccess(access.org, tokens[name]) for name in (WRITER_TOKEN, READER_TOKEN))
    async with InfluxStore(influx_place.store_url, writing) as writer:
        await writer.ping()
        assert (await writer.write([candle()], [candle(closed=False)])).taken == 2
        assert len(await writer.newest_candles("BTC/USD", Timeframe.M1, limit=9)) == 1
        assert len(await writer.latest()) == 1
        await writer.recall(["BTC/USD"], Timeframe.M1, start=0, end=2e9)
    async with Server(influx_place.store_url.http, writing, influx_place.url) as foreign:
        with pytest.raises(StoreUnavailableError):
            await foreign.write("mine", "s", b"a b=1 1")
    async with InfluxStore(influx_place.store_url, reading) as reader:
        assert len(await reader.newest_candles("BTC/USD", Timeframe.M1, limit=9)) == 1
        with pytest.raises(StoreUnavailableError, match="may not"):
            await reader.write([candle()], [])


async def test_recalled_candle_is_not_replaced_by_an_older_version(influx_place, access, store, candle):
    first = candle()
    correction = replace(first, revision=1, at=first.at + 5, trades=99)
    await store.write([correction], [])
    async with InfluxStore(influx_place.store_url, access) as next_writer:
        await next_writer.recall([first.symbol], first.timeframe, start=first.open_time, end=first.close_time)
        assert (await next_writer.write([first], [])).taken == 1
    assert await store.candles("BTC/USD", Timeframe.M1, limit=9) == [correction]


async def test_a_writer_with_the_token_from_before_a_bucket_was_deleted_still_writes_the_others(
    influx_place, access, store, server, candle
):
    before = await everything(server, access)
    writing = InfluxAccess(access.org, next(t["token"] for t in before["tokens"] if t["description"] == WRITER_TOKEN))
    hours = next(bucket for bucket in before["buckets"] if bucket["name"] == "candles_1h")
    await server.delete(f"buckets/{hours['id']}")
    result = await store.bootstrap()
    assert any(change.startswith(f"made a new token {WRITER_TOKEN}") for change in result.changes)
    assert result.state.complete
    batch = [candle(timeframe=timeframe) for timeframe in Timeframe]
    async with InfluxStore(influx_place.store_url, writing) as old:
        result = await old.write(batch, [candle(closed=False)])
        assert result.problem.startswith("candles_1h: ")
        assert (result.taken, result.unstored_candles) == (len(batch), (3,))
        # What a writer reads when it takes symbols over.
        assert {found.timeframe for found in await old.latest()} == set(Timeframe) - {Timeframe.H1}
        await old.recall({"BTC/USD"}, Timeframe.H1, start=0.0, end=9e9)
    assert {freshness.timeframe for freshness in await readable(store)} == set(Timeframe) - {Timeframe.H1}
    tokens = {t["description"]: t["token"] for t in (await everything(server, access))["tokens"]}
    assert tokens[f"{WRITER_TOKEN}, superseded"] == writing.token
    async with InfluxStore(influx_place.store_url, InfluxAccess(access.org, tokens[WRITER_TOKEN])) as new:
        assert (await new.write(batch, [])).taken == len(batch)
    assert (await store.bootstrap()).changes == ()


async def test_a_writer_with_the_token_from_before_a_bucket_was_renamed_still_writes_the_others(
    influx_place, access, store, server, candle
):
    before = await everything(server, access)
    writing = InfluxAccess(access.org, next(t["token"] for t in before["tokens"] if t["description"] == WRITER_TOKEN))
    hours = next(bucket for bucket in before["buckets"] if bucket["name"] == "candles_1h")
    await server.patch(f"buckets/{hours['id']}", {"name": "hours of last year"})
    assert (await store.bootstrap()).state.complete
    async with InfluxStore(influx_place.store_url, writing) as old:
        result = await old.write([candle(timeframe=timeframe) for timeframe in Timeframe], [candle(closed=False)])
        assert result.problem.startswith("candles_1h: ")
    assert {freshness.timeframe for freshness in await readable(store)} == set(Timeframe) - {Timeframe.H1}
    assert (await store.bootstrap()).changes == ()


async def test_a_token_with_more_rights_than_it_should_have_is_replaced(influx_place, access, store, server):
    own = await org_id(server, access)
    old = next(t for t in (await everything(server, access))["tokens"] if t["description"] == WRITER_TOKEN)
    await server.delete(f"authorizations/{old['id']}")
    rights = [{"action": "write", "resource": {"type": "buckets", "orgID": own}}]
    await server.post("authorizations", {"orgID": own, "description": WRITER_TOKEN, "permissions": rights})
    assert any(change.startswith(f"replaced token {WRITER_TOKEN}") for change in (await store.bootstrap()).changes)
    assert len((await everything(server, access))["tokens"]) == 2


async def test_missing_bucket_blocks_only_its_own_timeframe(store, server, access, candle):
    buckets = (await everything(server, access))["buckets"]
    hours = next(bucket for bucket in buckets if bucket["name"] == "candles_1h")
    await server.delete(f"buckets/{hours['id']}")
    batch = [candle(timeframe=timeframe) for timeframe in Timeframe]
    result = await store.write(batch, [candle(closed=False)])
    assert result.problem.startswith("candles_1h: ")
    assert result.unstored_candles == (3,)
    assert {found.timeframe for found in await store.latest()} == set(Timeframe) - {Timeframe.H1}
    await store.recall({"BTC/USD"}, Timeframe.H1, start=0.0, end=9e9)
    assert {freshness.timeframe for freshness in await readable(store)} == set(Timeframe) - {Timeframe.H1}
    await store.bootstrap()
    assert (await store.write(batch, [])).taken == len(batch)
    assert len(await store.candles("BTC/USD", Timeframe.H1, limit=9)) == 1


async def readable(store: InfluxStore) -> list[Any]:
    return [c for t in Timeframe if t is not Timeframe.H1 for c in await store.candles("BTC/USD", t, limit=9)]


async def test_rejected_lines_are_reported_with_the_reason_and_the_rest_is_written(store, server, candle):
    # Somebody wrote trades of long ago as floats: that shard takes no integers any more.
    bad = candle(-300_000)
    line = f"candle,exchange=kraken,symbol=BTC/USD trades=1.5 {bad.open_time - 60}"
    await server.write("candles_1m", "s", line.encode())
    rows = [candle(n) for n in range(500)]
    result = await store.write([*rows[:200], bad, *rows[200:]], [])
    assert [entry.index for entry in result.rejected_candles] == [200]
    assert "field type conflict" in result.rejected_candles[0].reason
    assert result.taken == 500
    assert len(await store.candles("BTC/USD", Timeframe.M1, start=rows[0].open_time, limit=1000)) == 500


async def test_bucket_that_rejects_every_line_leaves_candles_unstored_until_it_accepts(store, candle, monkeypatch):
    write, broken = Server.write, {"candles_1m"}

    async def rejecting(server: Server, bucket: str, precision: str, body: bytes) -> None:
        if bucket in broken:
            raise RefusedError(400, "invalid")
        await write(server, bucket, precision, body)

    monkeypatch.setattr(Server, "write", rejecting)
    minutes = [candle(n) for n in range(50)]
    for _ in range(2):
        result = await store.write([*minutes, candle(timeframe=Timeframe.H1)], [])
        assert result.problem == "candles_1m: line after line is rejected: 400 invalid"
        assert (result.taken, result.unstored_candles) == (1, tuple(range(50)))
    assert len(await store.candles("BTC/USD", Timeframe.H1, limit=9)) == 1
    broken.clear()
    result = await store.write(minutes, [])
    assert (result.taken, result.rejected_candles) == (50, ())


async def test_lines_that_influxdb_drops_by_the_dozen_are_rejected_and_the_rest_is_written(store, server, candle):
    bad = [candle(-300_000 + n) for n in range(30)]
    line = f"candle,exchange=kraken,symbol=BTC/USD trades=1.5 {bad[0].open_time - 60}"
    await server.write("candles_1m", "s", line.encode())
    result = await store.write([*bad, candle()], [])
    assert (len(result.rejected_candles), result.taken) == (30, 1)


async def test_rows_that_influxdb_acknowledges_and_loses_are_noticed(store, candle, monkeypatch):
    # Of a day that this store has not written to: InfluxDB may have made a shard for it.
    write, lose = Server.write, {"candles_1m"}

    async def lossy(server: Server, bucket: str, precision: str, body: bytes) -> None:
        if bucket not in lose:
            await write(server, bucket, precision, body)

    monkeypatch.setattr(Server, "write", lossy)
    days = [candle(1440 * n, symbol=symbol) for n in range(3) for symbol in ("BTC/USD", "ETH/USD")]
    with pytest.raises(StoreUnavailableError, match="candles_1m has not kept candles that it acknowledged"):
        await store.write([*days, candle(timeframe=Timeframe.H1)], [])
    lose.clear()
    assert (await store.write(days, [])).taken == 6
    assert len(await store.candles("ETH/USD", Timeframe.M1, limit=9)) == 3


async def test_rows_are_read_back_once_a_day_of_a_bucket(store, candle, monkeypatch):
    queries = []
    query = Server.query

    async def noted(server: Server, text: str) -> str:
        queries.append(text)
        return await query(server, text)

    monkeypatch.setattr(Server, "query", noted)
    day = candle().open_time // 86_400 * 86_400
    for n in range(3):
        await store.write([candle(open_time=day + 60 * n)], [])
    assert len(queries) == 1
    await store.write([candle(open_time=day + 86_400)], [])
    assert len(queries) == 2


@pytest.mark.parametrize(
    ("retention", "timeframe", "seconds"),
    [
        ("1m=90d", Timeframe.M1, 86_400),
        ("5m=1y", Timeframe.M5, 7 * 86_400),
        ("1m=forever", Timeframe.M1, 21 * 86_400),
        ("15m=forever", Timeframe.M15, 21 * 86_400),
        ("1h=forever", Timeframe.H1, 49 * 86_400),
        ("1m=2h", Timeframe.M1, 7200),
    ],
)
async def test_a_bucket_has_a_few_hundred_shards_at_most(influx_place, access, server, retention, timeframe, seconds):
    async with InfluxStore(influx_place.store_url, access, retention=Retention.parse(retention)) as store:
        await store.bootstrap()
    buckets = (await everything(server, access))["buckets"]
    (bucket,) = (bucket for bucket in buckets if bucket["name"] == f"candles_{timeframe.value}")
    (rule,) = bucket["retentionRules"]
    assert rule["shardGroupDurationSeconds"] == seconds


async def test_rows_past_their_retention_are_rejected_and_the_young_ones_written(influx_place, access, candle):
    async with InfluxStore(influx_place.store_url, access, retention=Retention.parse("1h=5y")) as store:
        await store.bootstrap()
        old = [candle(n) for n in range(3000)]
        hour = candle(0, timeframe=Timeframe.H1)
        result = await store.write([*old, hour], [])
        assert len(result.rejected_candles) == 3000
        assert "etention" in result.rejected_candles[0].reason
        assert len(await store.candles("BTC/USD", Timeframe.H1, limit=9)) == 1


async def test_bucket_with_a_shorter_retention_than_ours_leaves_young_candles_unstored(
    influx_place, access, server, candle
):
    now = candle(0).at
    retention = Retention.parse("1h=5y,1d=forever")
    async with InfluxStore(influx_place.store_url, access, clock=lambda: now, retention=retention) as store:
        await store.bootstrap()
        buckets = (await everything(server, access))["buckets"]
        days = next(bucket for bucket in buckets if bucket["name"] == "candles_1d")
        shorter = {"type": "expire", "everySeconds": 3600, "shardGroupDurationSeconds": 3600}
        await server.patch(f"buckets/{days['id']}", {"retentionRules": [shorter]})
        rows = [candle(0, timeframe=Timeframe.D1), candle(1, timeframe=Timeframe.D1), candle(timeframe=Timeframe.W1)]
        result = await store.write(rows, [])
        assert (result.taken, result.unstored_candles, result.rejected_candles) == (1, (0, 1), ())
        assert result.problem == (
            "candles_1d: the bucket's retention is shorter than RETENTION (forever), so it rejects candles of "
            + rfc3339(rows[0].open_time)
        )
        await server.patch(f"buckets/{days['id']}", {"retentionRules": days["retentionRules"]})
        assert (await store.write(rows, [])).taken == 3


@pytest.mark.parametrize("symbol", ['A"/USD', 'x" or true or "', "${1+1}/USD", "A\\B/USD", "A B=C,D/USD", "Ä€/USD"])
async def test_a_symbol_is_only_ever_a_name(store, candle, symbol):
    await store.write([candle(), candle(symbol=symbol)], [candle(symbol=symbol, closed=False)])
    for found in (
        await store.candles(symbol, Timeframe.M1, limit=9),
        await store.newest_candles(symbol, Timeframe.M1, limit=9),
        await store.ticks(symbol, start=0, end=2e9, limit=9),
    ):
        assert [c.symbol for c in found] == [symbol]
    assert await store.symbols() == sorted(["BTC/USD", symbol])


async def test_a_symbol_that_no_line_can_hold_is_rejected(store, candle):
    result = await store.write([candle(symbol="A\n/USD"), candle(symbol=""), candle()], [])
    assert [entry.index for entry in result.rejected_candles] == [0, 1]
    assert result.taken == 1


async def test_candle_round_trips_with_its_shortest_digits(store, candle):
    row = candle(volume=Decimal("0.10000000"), complete=False, revision=2, open=Decimal("0.00000123"))
    await store.write([row], [])
    (found,) = await store.candles("BTC/USD", Timeframe.M1, limit=9)
    assert found == row
    assert (str(found.volume), f"{found.open:f}") == ("0.1", "0.00000123")


async def test_ticks_of_two_minutes_in_one_frame_are_both_kept(store, candle):
    ticks = [candle(n, closed=False, at=candle(1).open_time + 0.25) for n in (0, 1)]
    await store.write([], ticks)
    found = await store.ticks("BTC/USD", start=0, end=2e9, limit=9)
    assert found == ticks


async def test_candles_on_both_sides_of_a_long_silence_are_found(store, candle):
    rows = [candle(-900_000), candle(-899_999), candle(-5000), candle(0)]
    await store.write(rows, [])
    assert await store.newest_candles("BTC/USD", Timeframe.M1, limit=4) == rows
    assert await store.candles("BTC/USD", Timeframe.M1, limit=3) == rows[:3]
    end = float(rows[3].open_time)
    assert await store.newest_candles("BTC/USD", Timeframe.M1, end=end, limit=2) == rows[1:3]


async def test_the_state_of_every_task_is_known(store):
    states = await store.tasks()
    assert [state.name for state in states] == [f"downsample_{t.value}" for t in list(Timeframe)[1:]]
    assert all(state.exists and state.active and state.error is None and state.since for state in states)


async def test_a_task_that_is_run_beside_its_schedule_makes_what_is_missing(store, candle):
    opened = Timeframe.M5.floor(time.time()) - Timeframe.M5.seconds
    await store.write([replace(candle(0), open_time=opened + 60 * number, at=time.time()) for number in range(5)], [])
    await store.run_task("downsample_5m")

    async def made():
        return [row.open_time for row in await store.candles("BTC/USD", Timeframe.M5, limit=5)] == [opened]

    await until(made, 60)
    assert (await store.tasks())[0].error is None
    await store.run_task("nobody's")


# 200 and 400 are those of a proxy or of a page: InfluxDB says what is wrong with a line, and that it is written by 204.
@pytest.mark.parametrize("status", [200, 201, 302, 400, 405, 407, 422, 429, 500, 503])
async def test_only_status_204_is_durable_and_all_else_is_retried(candle, status):
    async with answering(lambda lines: status) as (url, _), opened(url) as store:
        with pytest.raises(StoreUnavailableError, match=str(status)):
            await store.write([], [candle()])


@pytest.mark.parametrize("status", [200, 204, 302, 400, 404, 405, 407, 500, 502])
@pytest.mark.parametrize(
    "page", [b"", b"<html><body>hello</body></html>", b"[]", b"{}", b'{"message": "no"}', b"\xff\xfe"]
)
async def test_response_of_another_server_is_unavailable_and_ends_no_service(status, page):
    async def anything(reader, writer):
        await reader.read(65_536)
        head = f"HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nConnection: close\r\n"
        writer.write(head.encode() + f"Content-Length: {len(page)}\r\n\r\n".encode() + (b"" if status == 204 else page))
        writer.close()

    listener = await asyncio.start_server(anything, "127.0.0.1", 0)
    url = InfluxUrl.parse(f"influxdb://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    async with listener, InfluxStore(url, InfluxAccess("org", "token")) as store:
        for ask in (store.ping, store.bootstrap):
            with pytest.raises(StoreUnavailableError):
                await ask()
        for ask in (store.inspect, store.tasks):
            # 404 may mean that there is no such organisation.
            with contextlib.suppress(StoreUnavailableError):
                await ask()
        with pytest.raises(StoreUnavailableError):
            await store.symbols()


_ENDLESS = b"a" * 2**20
_COLUMNS = (
    b",result,table,_time,_value,symbol,closed,at,revision,elapsed,open,high,low,close,volume,trades,exchange\r\n"
)
_HEADER = b"#group" + b",false" * 4 + b",true" + b",false" * 10 + b",true\r\n" + _COLUMNS
_TIME = b"2024-02-25T02:15:00Z"


@pytest.mark.parametrize(
    "page",
    [
        b"<html>\r\n<title>a, b</title>\r\n</html>\r\n\r\n",
        _HEADER + b",candles_1m,0,yesterday,x,BTC/USD,true,1,1,60,1,2,3,4,5,6,kraken\r\n\r\n",
        _HEADER + b",somewhere,0," + _TIME + b",x,BTC/USD,true,a,b,c,d,e,f,g,h,i,kraken\r\n\r\n",
        _HEADER + b",missing,0," + _TIME + b",x,BTC/USD,true,a,b,c,d,e,f,g,h,i,kraken\r\n\r\n",
        _HEADER + b",candles_1m,0," + _TIME + b"\r\n\r\n",
        _HEADER + b",candles_1m\r\n\r\n",
        _COLUMNS + b",candles_1m,0," + _TIME + b",1,BTC/USD,true,1,1,60,1,2,3,4,5,6,kraken\r\n\r\n",
        b"[" * 100_000,
        b'{"buckets": [{"name": "candles_1m", "retentionRules": [{"everySeconds": "x"}]}], "orgs": [{"id": "1"}]}',
        b'{"orgs": [{"id": "1"}], "tasks": [{"name": "downsample_5m", "createdAt": "x", "latestCompleted": "y"}]}',
    ],
)
async def test_response_resembling_influxdb_is_unavailable_and_ends_no_service(page):
    async with paging(200, page) as url, opened(url) as store:
        series = store.series("BTC/USD", Timeframe.M1)
        for ask in (store.bootstrap, store.inspect, store.tasks, partial(series.count, 0, 600)):
            with pytest.raises(StoreUnavailableError):
                await ask()
        for read in (
            partial(store.candles, "BTC/USD", Timeframe.M1, limit=5),
            partial(store.newest_candles, "BTC/USD", Timeframe.M1, start=0, end=600, limit=50),
            partial(store.forming, "BTC/USD", Timeframe.M1),
            partial(store.ticks, "BTC/USD", start=0, end=600, limit=5),
        ):
            # A row that is not ours is skipped.
            with contextlib.suppress(StoreUnavailableError):
                assert not await read()
        for other in (
            store.ping,
            store.symbols,
            store.latest,
            partial(store.recall, {"BTC/USD"}, Timeframe.M1, start=0, end=600),
            partial(store.newest_closed, Timeframe.M1, since=0),
            partial(store.gaps, Timeframe.M1, start=0, end=600),
            partial(series.read, 0, 600),
            series.bounds,
        ):
            with contextlib.suppress(StoreUnavailableError):
                await other()


_STORED = _HEADER + b",candles_1m,0," + _TIME + b",,BTC/USD,true,1,0,60,1,2,0.5,1.5,6,7,kraken\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "page", "reason"),
    [
        *(
            (status, page, f"expected 200 for a query, got {status}")
            for status in (201, 202, 206)
            for page in (_STORED, b"")
        ),
        (200, b"", "expected a whole result, got one that ends with ''"),
        (200, _STORED[:-20], "expected a whole result, got one that ends with .*BTC/USD"),
        (200, _STORED[:-2], "expected a whole result, got one that ends with .*BTC/USD"),
    ],
)
async def test_only_a_whole_response_of_status_200_is_a_result(status, page, reason):
    async with paging(status, page) as url, opened(url) as store:
        with pytest.raises(StoreUnavailableError, match=reason):
            await store.candles("BTC/USD", Timeframe.M1, start=0, end=2e9, limit=5)


async def test_a_result_without_rows_is_empty():
    async with paging(200, b"\r\n") as url, opened(url) as store:
        assert await store.candles("BTC/USD", Timeframe.M1, start=0, end=2e9, limit=5) == []


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_endless_response_is_unavailable(candle, status):
    async with paging(status, None) as url, opened(url) as store:
        for ask in (store.ping, store.symbols, partial(store.write, [], [candle()])):
            with pytest.raises(StoreUnavailableError, match="at most 64 MiB"):
                await ask()


_BEING_WRITTEN = _HEADER + b",candles_1m,0," + _TIME + b",,BTC/USD,true,1,0,60,1,2,0.5,,6,7,kraken\r\n\r\n"
_WRITTEN = _BEING_WRITTEN.replace(b",0.5,,", b",0.5,1.5,")


async def test_row_with_invisible_close_is_read_once_more():
    start = 1_708_827_300
    async with querying([_BEING_WRITTEN, _BEING_WRITTEN, _WRITTEN]) as url, opened(url) as store:
        series = store.series("BTC/USD", Timeframe.M1)
        rows = await series.read(start, start + 60, ("time", "close", "volume", "trades"))
    assert rows == b"time,close,volume,trades\n1708827300,1.5,6.0,7\n"


async def test_row_that_never_gets_a_close_is_ignored():
    start = 1_708_827_300
    async with querying([_BEING_WRITTEN]) as url, opened(url) as store:
        assert await store.series("BTC/USD", Timeframe.M1).read(start, start + 60, ("time",)) == b"time\n"
        assert await store.candles("BTC/USD", Timeframe.M1, start=start, end=start + 60, limit=1) == []


@asynccontextmanager
async def querying(pages: list[bytes]) -> AsyncIterator[str]:
    """An HTTP server that answers one query after the other with `pages`, then all with the last one."""
    left = iter(pages[:-1])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            page = next(left, pages[-1])
            writer.write(b"HTTP/1.1 200 x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(page) + page)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"influxdb://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def paging(status: int, page: bytes | None) -> AsyncIterator[str]:
    """An HTTP server that answers everything with `page`; None: with one that does not end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 {status} x\r\nConnection: close\r\n"
            if page is not None:
                writer.write(head.encode() + f"Content-Length: {len(page)}\r\n\r\n".encode() + page)
                return
            writer.write(head.encode() + b"\r\n")
            while True:
                writer.write(_ENDLESS)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"influxdb://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_oversized_batch_is_halved_until_accepted(candle):
    async with answering(lambda lines: 413 if lines > 100 else 204) as (url, taken), opened(url) as store:
        assert (await store.write([], [candle(n) for n in range(1000)])).taken == 1000
    assert sum(taken) == 1000


async def test_a_bulk_write_is_repeated_when_influxdb_was_busy(monkeypatch):
    monkeypatch.setattr("ingress_store.influx.bulk._WRITE_PAUSES", (0.0, 0.0))
    rows = [(60 * n, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1, True, False, True, 0, "archive", 60.0) for n in range(3)]
    answers = iter([500, None, 204, 500, 500, 500])
    async with answering(lambda lines: next(answers)) as (url, taken), opened(url) as store:
        assert await store.series("BTC/USD", Timeframe.M1).write(rows) == 3
        assert sum(taken) == 3
        with pytest.raises(StoreUnavailableError):
            await store.series("BTC/USD", Timeframe.M1).write(rows)


async def test_a_connection_that_dies_in_the_middle_is_unavailable(candle):
    async with answering(lambda lines: None) as (url, _), opened(url) as store:
        with pytest.raises(StoreUnavailableError):
            await store.write([], [candle()])


def opened(url: str) -> InfluxStore:
    return InfluxStore(InfluxUrl.parse(url), InfluxAccess("org", "token"))


@asynccontextmanager
async def answering(status_of: Callable[[int], int | None]) -> AsyncIterator[tuple[str, list[int]]]:
    """An HTTP server that answers a write with `status_of(its lines)` (None: hangs up), and all else with 503."""
    taken: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
                body = await reader.readexactly(int(fields.get(b"content-length", 0)))
                status: int | None = 503
                if b"/api/v2/write" in head:
                    lines = body.count(b"\n") + 1
                    status = status_of(lines)
                    taken.extend([lines] if status == 204 else [])
                if status is None:
                    break
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"influxdb://127.0.0.1:{server.sockets[0].getsockname()[1]}", taken


_FOREIGN_TASK = """\
option task = {name: "somebody's", every: 1h}
from(bucket: "mine") |> range(start: -1h)
"""


FOREIGN_ROWS = {
    "numbers missing": "candle,exchange=kraken,symbol=BAD/USD open=1.0,closed=true {time}",
    "only a number": "candle,exchange=kraken,symbol=BAD/USD trades=1i {time}",
    "open and trades alone": "candle,exchange=kraken,symbol=BAD/USD open=1.0,trades=1i,closed=true {time}",
    "one tag more": (
        "candle,exchange=kraken,symbol=BTC/USD,hand=foreign "
        "open=1.0,high=1.0,low=1.0,close=1.0,volume=1.0,vwap=1.0,trades=1i,closed=true,infilled=false {time}"
    ),
    "no symbol": (
        "candle,exchange=kraken "
        "open=1.0,high=1.0,low=1.0,close=1.0,volume=1.0,vwap=1.0,trades=1i,closed=true,infilled=false {time}"
    ),
    "no tags": "candle open=1.0,trades=1i,closed=true {time}",
    "another measurement": "weather,symbol=BTC/USD open=1.0,closed=true,trades=1i {time}",
}


@pytest.mark.parametrize("kind", FOREIGN_ROWS)
async def test_a_foreign_row_stops_neither_a_query_nor_a_task_for_the_other_symbols(store, server, candle, kind):
    good = [candle(number, symbol="ETH/USD") for number in range(10)]
    await store.write(good, [])
    for number in range(10):
        line = FOREIGN_ROWS[kind].format(time=candle(number).open_time)
        await server.write("candles_1m", "s", line.encode())
    start, end = good[0].open_time, good[-1].open_time + 60
    assert len(await store.candles("ETH/USD", Timeframe.M1, limit=20)) == 10
    assert len(await store.newest_candles("ETH/USD", Timeframe.M1, limit=20)) == 10
    assert "ETH/USD" in await store.symbols()
    assert ("ETH/USD", Timeframe.M1, good[-1].open_time) in [
        (found.symbol, found.timeframe, found.open_time) for found in await store.latest()
    ]
    assert (await store.newest_closed(Timeframe.M1, since=start))["ETH/USD"] == good[-1].open_time
    assert not [gap for gap in await store.gaps(Timeframe.M1, start=start, end=end) if gap.symbol == "ETH/USD"]
    await store.candles("BTC/USD", Timeframe.M1, limit=20)
    await store.query(backfill_flux(Timeframe.M5, Timeframe.M5.floor(start), Timeframe.M5.ceil(end)))
    made = await store.candles("ETH/USD", Timeframe.M5, limit=20)
    assert made
    assert all(row.closed for row in made)


@pytest.mark.parametrize("minute", [3, 700_000])
@pytest.mark.parametrize(
    "tags",
    [
        "a=b,exchange=kraken,symbol=BTC/USD",
        "exchange=kraken,host=a,symbol=BTC/USD",
        "exchange=kraken,symbol=BTC/USD,type=a",
        "exchange=other,symbol=BTC/USD",
    ],
)
async def test_rows_of_foreign_series_change_no_answer_of_their_symbol(store, server, candle, tags, minute):
    """The times are those of a candle and of one in a year: answers begin and end with what is first and last."""
    good = [candle(number) for number in range(0, 2_500, 100)]
    await store.write(good, [])

    async def answers() -> list[Any]:
        start, end = good[0].open_time, good[-1].open_time + 60
        return [
            await store.candles("BTC/USD", Timeframe.M1, limit=20),
            await store.newest_candles("BTC/USD", Timeframe.M1, limit=20),
            await store.forming("BTC/USD", Timeframe.M1),
            [found for found in await store.latest() if found.symbol == "BTC/USD"],
            (await store.newest_closed(Timeframe.M1, since=start))["BTC/USD"],
            await store.gaps(Timeframe.M1, start=start, end=end),
            await store.recall({"BTC/USD"}, Timeframe.M1, start=start, end=end),
        ]

    expected = await answers()
    assert expected[0] == good[:20]
    assert expected[1] == good[-20:]
    line = f"candle,{tags} open=1.0,high=1.0,low=1.0,close=1.0,volume=1.0,vwap=1.0,trades=1i,closed=true,at=1i"
    times = (candle(minute).open_time, candle(minute + 50).open_time)
    await server.write("candles_1m", "s", "\n".join(f"{line} {time}" for time in times).encode())
    assert await answers() == expected


_TEXTS = (
    'candle,exchange=kraken,symbol=BAD/USD open="a",high="b",low="c",close="d",volume="e",vwap="f",trades="g",'
    'closed="h",infilled="i",complete="j",revision="k",at="l" {time}'
)


async def test_a_foreign_row_of_other_types_long_ago_stops_no_query_for_the_other_symbols(store, server, candle):
    # Of another shard: within one, InfluxDB refuses other types. Over both, it finds the newest of a series only.
    now = [candle(number, symbol="ETH/USD") for number in range(10)]
    await store.write(now, [])
    long_ago = now[0].open_time - 400 * 86_400
    await server.write("candles_1m", "s", _TEXTS.format(time=long_ago).encode())
    assert len(await store.newest_candles("ETH/USD", Timeframe.M1, limit=10)) == 10
    assert "ETH/USD" in [found.symbol for found in await store.latest()]
    assert "ETH/USD" in await store.newest_closed(Timeframe.M1, since=long_ago - 60)
    await store.gaps(Timeframe.M1, start=long_ago - 60, end=now[-1].open_time + 60)
    await store.recall({"ETH/USD", "BAD/USD"}, Timeframe.M1, start=long_ago - 60, end=now[-1].open_time + 60)
    for ask in (
        partial(store.candles, "BAD/USD", Timeframe.M1, limit=5),
        partial(store.forming, "BAD/USD", Timeframe.M1),
        partial(store.series("BAD/USD", Timeframe.M1).read, long_ago, long_ago + 60),
    ):
        with contextlib.suppress(StoreUnavailableError):
            await ask()
