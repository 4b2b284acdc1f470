"""What the audit finds."""

import asyncio
import sqlite3
from contextlib import closing

from memory_broker import MemoryBroker, MemoryBus
from prometheus_client import CollectorRegistry

from admin_api.reconciler import audit
from admin_api.reconciler.audit import AuditMetrics, Auditor, audited_range, gaps_of_aggregators, late_series
from admin_api.reconciler.context import Context
from admin_api.reconciler.gaps import missing_windows
from admin_api.system.state import SystemState
from ingress_common.model import FeedCondition, FeedState, InstanceState, Range, Status
from ingress_common.payloads import encode_feed_state, encode_status
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import Topics
from ingress_store import Freshness, Retention, SqliteStore
from waiting import until

NOW = 1_700_000_030.0
DAY = 86400
M1, H1, W1 = Timeframe.M1, Timeframe.H1, Timeframe.W1


def fresh(timeframe, back, symbol="BTC/USD"):
    """The newest closed candle ended about `back` seconds ago."""
    return Freshness(symbol, timeframe, timeframe.floor(NOW - back) - timeframe.seconds, NOW)


def test_it_looks_back_to_the_horizon_but_never_beyond_what_is_kept():
    span = audited_range(M1, NOW, 7 * DAY, Retention())
    assert span.start == M1.ceil(NOW - 7 * DAY)
    assert NOW - 180 < span.end <= NOW - 60
    assert audited_range(M1, NOW, 400 * DAY, Retention()).start >= NOW - 90 * DAY
    assert audited_range(H1, NOW, 400 * DAY, Retention()).start == H1.ceil(NOW - 400 * DAY)


def test_of_long_timeframes_it_looks_at_some_windows_whatever_the_horizon():
    span = audited_range(W1, NOW, DAY, Retention())
    assert span.end - span.start >= 4 * W1.seconds


def test_a_series_that_ends_too_early_has_a_gap_at_its_end():
    (gap,) = late_series([fresh(M1, 600), fresh(H1, 600)], {"BTC/USD": None}, NOW)
    assert gap.timeframe is M1
    assert gap.range == Range(M1.floor(NOW - 600), M1.floor(NOW - 180))


def test_series_without_a_live_feed_or_hardly_late_have_none():
    assert late_series([fresh(M1, 600)], {"ETH/USD": None}, NOW) == []
    assert late_series([fresh(M1, 170)], {"BTC/USD": None}, NOW) == []


def test_series_behind_the_bus_is_no_gap_while_the_writer_writes():
    late = [fresh(M1, 600), fresh(H1, 9000)]
    assert late_series(late, {"BTC/USD": M1.floor(NOW)}, NOW) == []
    assert late_series(late, {"BTC/USD": M1.floor(NOW - 600)}, NOW) != []


def state_of(missing, presence=InstanceState.ONLINE):
    state, topics = SystemState(Topics()), Topics()
    status = Status("aggregator", "i1", presence, "0.1.0", NOW, {"missing": missing})
    state.apply(topics.status("aggregator", "i1"), encode_status(status), NOW)
    state.apply(topics.feed("f1"), encode_feed_state(FeedState("f1", FeedCondition.LIVE, NOW, ("BTC/USD",))), NOW)
    return state


def entry(**changes):
    whole = {
        "symbol": "BTC/USD",
        "timeframe": "1m",
        "from": rfc3339(NOW - 900),
        "to": rfc3339(NOW - 600),
        "lost": False,
    }
    return {**whole, **changes}


def test_gaps_of_aggregators_are_widened_to_whole_windows():
    (gap,) = gaps_of_aggregators(state_of([entry()]), NOW)
    assert (gap.symbol, gap.timeframe, gap.source.value) == ("BTC/USD", M1, "aggregator")
    assert gap.range == Range(M1.floor(NOW - 900), M1.ceil(NOW - 600))


def test_invalid_gaps_in_a_status_are_ignored():
    wrong = [
        7,
        {},
        entry(symbol="BTCUSD"),
        entry(symbol=None),
        entry(timeframe="2m"),
        entry(timeframe=[]),
        entry(**{"from": "x"}),
        entry(to=rfc3339(NOW - 1000)),
        entry(**{"from": rfc3339(NOW - 5), "to": rfc3339(NOW)}),
    ]
    assert gaps_of_aggregators(state_of(wrong), NOW) == []
    assert gaps_of_aggregators(state_of({"BTC/USD": 3}), NOW) == []
    assert gaps_of_aggregators(state_of([entry()], InstanceState.OFFLINE), NOW) == []


async def test_missing_windows_are_those_without_a_complete_candle(tmp_path, candle):
    async with SqliteStore(tmp_path / "c.db", clock=lambda: NOW) as store:
        await store.write([candle(-9), candle(-6), candle(-5, complete=False), candle(-4), candle(-2)], [])
        start = candle(-10).open_time
        missing = await missing_windows(store, "BTC/USD", M1, Range(start, candle(0).open_time))
    minutes = [(round(span.start - start) // 60, round(span.end - start) // 60) for span in missing]
    assert minutes == [(0, 1), (2, 4), (5, 6), (7, 8), (9, 10)]


async def test_gap_is_found_and_shown_at_service_start(world, candle):
    await world.store(candle(-20), candle(-16), candle(-2))
    async with world.running() as http:
        await world.healthy()

        async def found():
            body = (await http.get("/gaps")).json()
            return [(gap["from"], gap["windows"], gap["source"]) for gap in body["gaps"]]

        expected = [
            (rfc3339(candle(-19).open_time), 3, "store"),
            (rfc3339(candle(-15).open_time), 13, "store"),
        ]

        async def as_expected():
            return await found() == expected

        await world.until(as_expected)
        body = (await http.get("/gaps")).json()
        assert body["total"] == {"gaps": 2, "windows": 16, "filled": 0}
        assert body["audit"]["last_at"] == rfc3339(world.now)
        assert (await http.get("/gaps?symbol=ETH-USD")).json()["gaps"] == []
        assert (await http.get("/gaps?symbol=BTC%2FUSD&timeframe=1m&limit=1")).json()["total"]["gaps"] == 2
        assert (await http.get("/gaps?timeframe=1h")).json()["gaps"] == []
        for wrong in ("symbol=BTCUSD", "timeframe=2m", "limit=0"):
            assert (await http.get(f"/gaps?{wrong}")).status_code == 422
        health = (await http.get("/health")).json()
        assert health["gaps"]["windows_missing"] == 16
        assert "ingress_gap_windows 16.0" in (await http.get("/metrics")).text


async def test_audit_runs_at_once_and_after_the_repairs_of_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "_LOOK_SECONDS", 0.0)
    now, audits = NOW, []

    async def deliver(_found, _audited):
        audits.append(now - NOW)

    async with SqliteStore(tmp_path / "c.db") as store:
        await store.bootstrap()
        topics = Topics()
        context = Context(
            MemoryBus(MemoryBroker(), client_id="a1"), topics, store, SystemState(topics), lambda symbol: True,
            lambda: {"BTC/USD": NOW}, lambda: now,
        )  # fmt: skip
        auditor = Auditor(
            context, AuditMetrics(CollectorRegistry()), deliver, lambda: True,
            seconds=300.0, horizon=DAY, retention=Retention(),
        )  # fmt: skip
        running = asyncio.create_task(auditor.run())
        for count, later in ((1, 30.0), (2, 300.0), (3, 0.0)):
            await until(lambda count=count: len(audits) == count)
            now += later
        running.cancel()
    assert audits == [0.0, 30.0, 330.0]


async def test_store_without_audit_for_long_is_red_with_the_reason(world, candle):
    await world.store(candle())
    async with world.running():
        await world.healthy()
        await world.until_failing()
        await world.until(lambda: world.service.reconciler.auditor.last_at)
        with closing(sqlite3.connect(world.path)) as connection:
            connection.execute("ALTER TABLE candles RENAME COLUMN complete TO away")
        world.now += 901
        await world.alive()

        async def names_the_reason():
            return "no such column" in (await world.health())[1].get("audit", "")

        await world.until(names_the_reason)
        with closing(sqlite3.connect(world.path)) as connection:
            connection.execute("ALTER TABLE candles RENAME COLUMN away TO complete")
        world.now += 16
        await world.alive()

        async def audited():
            return "audit" not in (await world.health())[1]

        await world.until(audited)
