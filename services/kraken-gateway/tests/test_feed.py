"""A feed against a Kraken that follows a script: every fault leaves a correct stream or a stopped watermark."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from itertools import pairwise

import pytest

from ingress_common.model import GRACE, FeedCondition
from ingress_common.topics import Topics
from kraken_gateway.kraken.connection import INACTIVITY, ConnectionLost, Kraken
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.limits import ConnectionLimiter
from kraken_gateway.live.feed import Feed

LIVE, DOWN = FeedCondition.LIVE, FeedCondition.DOWN
HEARTBEAT = '{"channel":"heartbeat"}'


@pytest.fixture
async def skip(monkeypatch) -> Callable[[float], None]:
    """Advances the loop's clock and the wall clock by some seconds: what is due by then happens at once."""
    loop = asyncio.get_running_loop()
    steady, wall, skipped = loop.time, time.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: steady() + skipped)
    monkeypatch.setattr(time, "time", lambda: wall() + skipped)

    def advance(seconds: float) -> None:
        nonlocal skipped
        skipped += seconds

    return advance


@pytest.fixture
def heartbeats(metrics) -> Callable[[], float]:
    """Counts the heartbeats that the gateway has processed."""

    def count() -> float:
        samples = metrics.frames.collect()[0].samples
        return sum(s.value for s in samples if s.name.endswith("_total") and s.labels == {"kind": "heartbeat"})

    return count


@pytest.fixture
async def start(fake_kraken, open_bus, metrics, listener):
    """Starts a feed of some symbols; stops it at the end and checks what must hold whatever happened."""
    tasks = []

    def begin(*symbols: str, silence: float = INACTIVITY) -> Feed:
        clock = KrakenClock(time.time, asyncio.get_running_loop().time)
        kraken = Kraken(fake_kraken.url, ConnectionLimiter(time.monotonic), clock, metrics)
        feed = Feed("gw-0", kraken, open_bus, Topics(), metrics, silence)
        feed.assign(frozenset(symbols), {})
        tasks.append(asyncio.create_task(feed.run()))
        return feed

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        assert task.cancelled()
    check_invariants(listener)


def check_invariants(listener) -> None:
    """Watermarks lie after their feed's since, only grow, and never pass the time of their receipt less the grace."""
    since, last = None, 0.0
    for kind, item in listener.received:
        if kind == "feed" and item.state is LIVE:
            since = item.since
        elif kind == "watermark":
            assert since is not None
            assert item.watermark > max(last, since)
            assert item.watermark <= item.at - GRACE + 0.05
            last = item.watermark


def states(listener, condition: FeedCondition) -> list:
    return [state for state in listener.of("feed") if state.state is condition]


def lives(listener) -> int:
    """How often the feed came up."""
    found = [state.state for state in listener.of("feed")]
    return sum(after is LIVE and before is DOWN for before, after in pairwise(found))


def listed(listener) -> tuple[str, ...]:
    feeds = listener.of("feed")
    return feeds[-1].symbols if feeds else ()


@pytest.fixture
def play(listener):
    """Makes a script: respond like Kraken, and do `steps` once the feed covers everything that it has subscribed."""

    def make(*steps: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def script(client) -> None:
            async def act() -> None:
                await client.snapshot_sent.wait()
                await listener.until(lambda: set(listed(listener)) == set(client.subscribed()))
                for step in steps:
                    await step(client)

            async with asyncio.TaskGroup() as tasks:
                acting = tasks.create_task(act())
                await client.serve()
                acting.cancel()

        return script

    return make


def sends(*frames: str | bytes):
    async def step(client) -> None:
        for frame in frames:
            await client.send(frame)

    return step


async def test_snapshot_is_on_the_bus_before_its_symbol_is_listed(start, listener):
    start("BTC/USD", "ETH/USD")
    await listener.until(lambda: listed(listener) == ("BTC/USD", "ETH/USD"))
    seen = set()
    for kind, item in listener.received:
        if kind == "history":
            seen.add(item.symbol)
        elif kind == "feed":
            assert set(item.symbols) <= seen
    history = listener.of("history")[0]
    assert history.covers.start == history.candles[0].open_time
    assert [candle.closed for candle in history.candles[-3:]].count(False) >= 1
    assert all(c.closed == (c.close_time <= history.covers.end - GRACE) for c in history.candles)
    await listener.until(lambda: len(listener.of("watermark")) >= 2)


async def test_updates_are_published_in_the_order_of_receipt(start, listener, fake_kraken, frame, play):
    minute = time.time() // 60 * 60
    rows = [
        {"symbol": "BTC/USD", "begin": minute, "trades": 1, "volume": "1E-7", "close": "100.00"},
        {"symbol": "BTC/USD", "begin": minute, "trades": 1, "volume": "1E-7", "close": "100.00"},
        {"symbol": "BTC/USD", "begin": minute, "trades": 2},
        {"symbol": "BTC/USD", "begin": minute - 60, "trades": 9},
    ]
    fake_kraken.scripts = [play(sends(*(frame("update", [row]) for row in rows)))]
    start("BTC/USD")
    await listener.until(lambda: len(listener.of("raw")) == 4)
    ticks = listener.of("raw")
    assert [(tick.open_time - minute, tick.trades) for tick in ticks] == [(0, 1), (0, 1), (0, 2), (-60, 9)]
    assert ticks[0].volume == Decimal("1E-7")
    assert str(ticks[0].close) == "100.00"
    assert not ticks[0].closed


async def test_rows_of_several_symbols_in_one_frame_are_separated(start, listener, fake_kraken, frame, play):
    minute = time.time() // 60 * 60
    rows = [
        {"symbol": "BTC/USD", "begin": minute - 60},
        {"symbol": "BTC/USD", "begin": minute},
        {"symbol": "ETH/USD", "begin": minute},
        {"symbol": "ADA/USD", "begin": minute},
        {"symbol": "ETH/USD", "begin": 0, "interval": 1440},
    ]
    fake_kraken.scripts = [play(sends(frame("update", rows), frame("snapshot", rows[:3])))]
    start("BTC/USD", "ETH/USD")
    await listener.until(lambda: len(listener.of("raw")) == 3 and len(listener.of("history")) == 4)
    assert [tick.symbol for tick in listener.of("raw")] == ["BTC/USD", "BTC/USD", "ETH/USD"]
    assert sorted(h.symbol for h in listener.of("history")[2:]) == ["BTC/USD", "ETH/USD"]
    assert len(listener.of("dead-letter")) == 2
    assert lives(listener) == 1


async def cut(client) -> None:
    client.socket.transport.close()


async def reset(client) -> None:
    client.socket.transport.abort()


async def restart_of_proxy(client) -> None:
    await client.socket.close(1001, "CloudFlare WebSocket proxy restarting")


async def maybe_lost_candles(client) -> None:
    await client.send('{"channel":"ohlc","type":"update","data":[{"symb')


@pytest.mark.parametrize("fault", [cut, reset, restart_of_proxy, maybe_lost_candles])
async def test_feed_is_down_after_a_lost_connection_and_the_next_coverage_begins_later(
    start, listener, fake_kraken, fault, play
):
    fake_kraken.scripts = [play(fault), play()]
    start("BTC/USD")
    await listener.until(lambda: lives(listener) == 2)
    first, second = (state for state in states(listener, LIVE) if state.symbols)
    assert second.since > first.since
    assert len(listener.of("history")) == 2
    assert fake_kraken.attempts == 2
    await listener.until(lambda: listener.received[-1][0] == "watermark")


async def test_symbols_that_are_not_traded_are_rejected_and_not_subscribed_until_they_are(start, listener, fake_kraken):
    feed = start("BTC/USD", "ETH/USD")
    await listener.until(lambda: len(listed(listener)) == 2)
    feed.assign(frozenset({"BTC/USD", "ETH/USD"}), {"ETH/USD": "delisted"})
    await listener.until(
        lambda: listener.of("feed")[-1].rejected == {"ETH/USD": "delisted"} and listed(listener) == ("BTC/USD",)
    )
    feed.assign(frozenset({"BTC/USD", "ETH/USD"}), {"BTC/USD": "delisted", "ETH/USD": "delisted"})
    await listener.until(lambda: listener.of("feed")[-1].state is DOWN and len(listener.of("feed")[-1].rejected) == 2)
    assert feed.report().idle
    feed.assign(frozenset({"BTC/USD", "ETH/USD"}), {})
    await listener.until(lambda: len(listed(listener)) == 2)
    assert not listener.of("feed")[-1].rejected


async def test_connection_silent_after_the_ack_is_replaced(start, listener, fake_kraken, play):
    async def mute(client) -> None:
        client.responding = dict.fromkeys(client.responding, False)

    fake_kraken.scripts = [play(mute), play()]
    start("BTC/USD", silence=4.0)
    await listener.until(lambda: lives(listener) == 2, 20.0)
    first, second = (state for state in states(listener, LIVE) if state.symbols)
    # The time of the silence is not covered.
    assert all(w.watermark < first.since + 2 or w.watermark > second.since for w in listener.of("watermark"))
    assert second.since > first.since + 3


async def test_symbol_without_snapshot_or_ack_is_unlisted_and_resubscribed(start, listener, fake_kraken):
    async def script(client) -> None:
        original = client._respond_about

        async def respond(request, symbol, now):
            again = client.subscribed().count(symbol) > 1
            client.responding["ack"] = again or symbol != "ETH/USD"
            client.responding["snapshot"] = again or symbol == "BTC/USD"
            await original(request, symbol, now)

        client._respond_about = respond
        await client.serve()

    fake_kraken.scripts = [script]
    start("BTC/USD", "ETH/USD", "SOL/USD")
    await listener.until(lambda: listed(listener) == ("BTC/USD",))
    await listener.until(lambda: listed(listener) == ("BTC/USD", "ETH/USD", "SOL/USD"))
    assert lives(listener) == 1
    ended = [r["params"]["symbol"] for r in fake_kraken.clients[0].requests if r["method"] == "unsubscribe"]
    # Only what was acked has to be ended before it can be requested anew.
    assert ended == [["SOL/USD"]]


@pytest.mark.parametrize("with_req_id", [True, False])
async def test_rejected_symbol_is_named_and_does_not_disturb_the_others(start, listener, fake_kraken, with_req_id):
    reason = "Currency pair not supported XBT/USD"

    async def script(client) -> None:
        client.refusals = {"XBT/USD": reason}
        if not with_req_id:
            send = client.send
            client.send = lambda text: send(
                text if "error" not in str(text) else f'{{"error":"{reason}","success":false,"symbol":"XBT/USD"}}'
            )
        await client.serve()

    fake_kraken.scripts = [script]
    feed = start("BTC/USD", "XBT/USD", "ETH/USD")
    await listener.until(lambda: len(listed(listener)) == 2 and listener.of("feed")[-1].rejected)
    assert listener.of("feed")[-1].rejected == {"XBT/USD": reason}
    assert feed.report().state.symbols == ("BTC/USD", "ETH/USD")


async def test_feed_of_rejected_symbols_only_has_no_connection(start, listener, fake_kraken):
    async def script(client) -> None:
        client.refusals = {"XBT/USD": "Currency pair not supported XBT/USD"}
        await client.serve()
        client.ended = True

    fake_kraken.scripts = [script]
    start("XBT/USD")
    await listener.until(lambda: listener.of("feed") and listener.of("feed")[-1].rejected)
    await listener.until(lambda: getattr(fake_kraken.clients[0], "ended", False))
    assert states(listener, LIVE) == []


async def test_garbage_becomes_a_dead_letter_and_the_feed_continues(start, listener, fake_kraken, frame, play):
    minute = time.time() // 60 * 60
    garbage = ["<html>", b"\x00\xff", "null", '{"channel":"news","data":1}', '{"x":1}', ""]
    tick = frame("update", [{"symbol": "BTC/USD", "begin": minute}])
    fake_kraken.scripts = [play(sends(*garbage, tick))]
    start("BTC/USD")
    await listener.until(lambda: len(listener.of("raw")) == 1)
    assert [letter.payload for letter in listener.of("dead-letter")] == ["<html>", "base64:AP8=", "null", ""]
    assert lives(listener) == 1


async def test_symbol_of_malformed_rows_is_not_listed_until_a_snapshot_after_the_last_of_them(
    start, listener, fake_kraken, frame, heartbeats, play, skip
):
    minute = time.time() // 60 * 60
    rows = [{"symbol": "BTC/USD", "begin": minute, "high": "1.0"}, {"symbol": "ETH/USD", "begin": minute}]

    async def time_passes(seconds: float) -> None:
        until = time.time() + seconds
        while time.time() < until:
            processed = heartbeats()
            skip(0.5)
            await listener.until(lambda processed=processed: heartbeats() > processed)

    async def malformed_for_half_a_minute(client) -> None:
        for number in range(1, 4):
            await client.send(frame("update", rows))
            await listener.until(lambda number=number: len(listener.of("dead-letter")) == number)
            await time_passes(10.0)
            assert listed(listener) == ("ETH/USD",)
        await client.send(frame("update", [{"symbol": "BTC/USD", "begin": minute}]))
        await time_passes(3.0)

    fake_kraken.scripts = [play(malformed_for_half_a_minute)]
    start("BTC/USD", "ETH/USD")
    await listener.until(lambda: len(listener.of("dead-letter")) == 3, 30.0)
    await listener.until(lambda: listed(listener) == ("BTC/USD", "ETH/USD"), 30.0)
    assert [tick.symbol for tick in listener.of("raw")] == ["ETH/USD"] * 3 + ["BTC/USD"]
    assert [h.symbol for h in listener.of("history")].count("BTC/USD") == 2
    assert lives(listener) == 1


async def test_exceeded_rate_slows_down_and_resubscribes(start, listener, fake_kraken):
    async def script(client) -> None:
        respond = client._respond_about

        async def first_ignored(request, symbol, now):
            if client.subscribed().count(symbol) == 1:
                await client.send('{"Error":"Exceeded msg rate"}')
            else:
                await respond(request, symbol, now)

        client._respond_about = first_ignored
        await client.serve()

    fake_kraken.scripts = [script]
    start("BTC/USD")
    await listener.until(lambda: listed(listener) == ("BTC/USD",), 15.0)
    assert fake_kraken.attempts == 1


async def test_maintenance_stops_the_watermark_until_kraken_is_online(
    start, listener, fake_kraken, system_status, play
):
    async def closed_then_open(client) -> None:
        await client.send(system_status("maintenance"))
        request = json.loads(await client.socket.recv())
        await client.respond(request)
        assert request["method"] == "ping"
        await client.serve()

    fake_kraken.scripts = [play(sends(system_status("maintenance"))), closed_then_open]
    start("BTC/USD")
    await listener.until(lambda: lives(listener) == 1)
    await listener.until(lambda: listener.of("feed")[-1].state is DOWN)
    await listener.until(lambda: lives(listener) == 2, 15.0)
    assert fake_kraken.clients[1].requests[0]["method"] == "ping"


async def test_feed_continues_in_other_engine_states(start, listener, fake_kraken, system_status, frame, play):
    tick = frame("update", [{"symbol": "BTC/USD", "begin": time.time() // 60 * 60}])
    states_of_old = [system_status(system) for system in ("cancel_only", "post_only", "limit_only")]
    fake_kraken.scripts = [play(sends(*states_of_old, tick))]
    start("BTC/USD")
    await listener.until(lambda: listener.of("raw"))
    assert lives(listener) == 1


async def test_delayed_frame_does_not_advance_the_watermark(start, listener, fake_kraken, frame, play, skip):
    minute = time.time() // 60 * 60

    async def delayed(client) -> None:
        client.responding["heartbeat"] = False
        made = time.time() - 30.0
        for n in range(1, 11):
            await client.send(frame("update", [{"symbol": "BTC/USD", "begin": minute - 60}], made))
            await listener.until(lambda n=n: len(listener.of("raw")) == n)
            skip(0.2)

    fake_kraken.scripts = [play(delayed)]
    start("BTC/USD")
    await listener.until(lambda: len(listener.of("raw")) == 10)
    assert not [w for w in listener.of("watermark") if w.at > listener.of("raw")[0].at]


@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_step_of_our_wall_clock_changes_nothing_that_is_stamped(
    fake_kraken, open_bus, metrics, listener, frame, step, play, skip
):
    stepped = 0.0
    clock = KrakenClock(lambda: time.time() + stepped, asyncio.get_running_loop().time)

    async def trade(client) -> None:
        nonlocal stepped
        for n in range(1, 31):
            if n == 15:
                stepped = step
            published = len(listener.of("raw"))
            await client.send(frame("update", [{"symbol": "BTC/USD", "begin": time.time() // 60 * 60, "trades": n}]))
            await listener.until(lambda published=published: len(listener.of("raw")) > published)
            skip(0.1)
        await cut(client)

    fake_kraken.scripts = [play(trade)]
    kraken = Kraken(fake_kraken.url, ConnectionLimiter(time.monotonic), clock, metrics)
    feed = Feed("gw-0", kraken, open_bus, Topics(), metrics)
    feed.assign(frozenset({"BTC/USD"}), {})
    task = asyncio.create_task(feed.run())
    await listener.until(lambda: lives(listener) == 2 and len(listener.of("raw")) > 40, 30.0)
    task.cancel()
    await asyncio.wait([task])
    stamps = [item.at for kind, item in listener.received if kind in ("raw", "watermark")]
    assert all(abs(after - before) < 5.0 for before, after in pairwise(stamps))
    assert all(abs(item.candles[0].at - stamps[0]) < 30.0 for item in listener.of("history"))
    assert clock.skew == pytest.approx(step, abs=1.0)
    check_invariants(listener)


async def test_released_symbol_is_unsubscribed_and_the_others_stay_untouched(start, listener, fake_kraken):
    feed = start("BTC/USD", "ETH/USD")
    await listener.until(lambda: len(listed(listener)) == 2)
    feed.assign(frozenset({"BTC/USD", "SOL/USD"}), {})
    await listener.until(lambda: listed(listener) == ("BTC/USD", "SOL/USD"))

    def ended() -> list[list[str]]:
        return [r["params"]["symbol"] for r in fake_kraken.clients[0].requests if r["method"] == "unsubscribe"]

    # Not at once: the last updates may be on their way.
    await listener.until(lambda: ended() == [["ETH/USD"]])
    assert lives(listener) == 1


async def test_symbol_whose_snapshot_begins_late_moves_the_coverage_and_leaves_no_gap(start, listener, fake_kraken):
    async def script(client) -> None:
        now = time.time()
        client.snapshot_rows = lambda symbol: [
            {"symbol": symbol, "begin": now // 60 * 60 - (600 if symbol == "BTC/USD" else 0)}
        ]
        await client.serve()

    fake_kraken.scripts = [script]
    feed = start("BTC/USD")
    await listener.until(lambda: listed(listener) == ("BTC/USD",))
    feed.assign(frozenset({"BTC/USD", "NEW/USD"}), {})
    await listener.until(lambda: listed(listener) == ("BTC/USD", "NEW/USD"))
    watermark = 0.0
    for kind, item in listener.received:
        if kind == "watermark":
            watermark = item.watermark
        elif kind == "feed" and "NEW/USD" in item.symbols:
            oldest = next(h for h in listener.of("history") if h.symbol == "NEW/USD").covers.start
            assert item.since >= oldest
            assert item.since <= max(watermark, states(listener, LIVE)[0].since)


async def test_late_heartbeat_does_not_cover_an_update_behind_it(
    start, listener, fake_kraken, frame, heartbeats, play, skip
):
    made: list[float] = []

    async def hold_up(client) -> None:
        # The gateway pings after a stall; the pong would follow the update.
        client.responding["heartbeat"] = client.responding["pong"] = False

        async def heartbeat() -> None:
            processed = heartbeats()
            await client.send(HEARTBEAT)
            await listener.until(lambda: heartbeats() > processed)

        await heartbeat()
        made.append(time.time() + 1.1)
        # The next one is due after a second and takes more than the grace.
        skip(1.0 + GRACE + 0.3)
        await heartbeat()
        row = {"symbol": "BTC/USD", "begin": made[0] // 60 * 60, "trades": 77}
        await client.send(frame("update", [row], stamp=made[0]))

    fake_kraken.scripts = [play(hold_up)]
    start("BTC/USD")
    await listener.until(lambda: [tick for tick in listener.of("raw") if tick.trades == 77])
    before = listener.received[
        : next(n for n, (kind, item) in enumerate(listener.received) if kind == "raw" and item.trades == 77)
    ]
    assert [item for kind, item in before if kind == "watermark" and item.watermark >= made[0]] == []


async def test_feed_state_replaces_the_last_will_when_the_bus_is_back(start, listener, made):
    start("BTC/USD")
    await listener.until(lambda: listed(listener) == ("BTC/USD",))
    made["gw-0"].drop()
    await listener.until(lambda: lives(listener) == 2)
    will, again = listener.of("feed")[-2:]
    assert will.state is DOWN
    assert (again.since, again.symbols) == (states(listener, LIVE)[0].since, ("BTC/USD",))


@pytest.mark.parametrize("outbound_limit", [5])
async def test_updates_wait_for_the_broker_without_loss_or_early_coverage(
    start, listener, fake_kraken, made, broker, frame, play
):
    away = asyncio.Event()

    async def flood(client) -> None:
        await away.wait()
        minute = time.time() // 60 * 60
        updates = [frame("update", [{"symbol": "BTC/USD", "begin": minute, "trades": n}]) for n in range(2, 52)]
        await sends(*updates)(client)

    fake_kraken.scripts = [play(flood)]
    feed = start("BTC/USD")
    await listener.until(lambda: listener.of("watermark"))
    broker.refuse("gateway-gw-0")
    made["gw-0"].drop()
    away.set()
    await listener.until(lambda: feed.report().lag > 3.0, 20.0)
    received = len(listener.of("watermark"))
    assert feed.report().backlog > 10
    broker.accept("gateway-gw-0")
    await listener.until(lambda: len(listener.of("raw")) == 50, 30.0)
    await listener.until(lambda: len(listener.of("watermark")) > received)
    assert [tick.trades for tick in listener.of("raw")] == list(range(2, 52))
    assert len({state.since for state in states(listener, LIVE)}) == 1
    assert fake_kraken.attempts == 1


@pytest.mark.parametrize(("status", "reason"), [(429, "too-many-connects"), (503, "refused")])
async def test_refused_upgrade_is_lost_with_its_reason(fake_kraken, metrics, status, reason):
    fake_kraken.refuse_with = [status]
    kraken = Kraken(fake_kraken.url, ConnectionLimiter(time.monotonic), KrakenClock(time.time), metrics)
    with pytest.raises(ConnectionLost) as lost:
        async with kraken.connect("live"):
            pass
    assert lost.value.reason == reason


async def test_feed_waits_while_kraken_cannot_be_reached(start, listener, fake_kraken, unused_tcp_port):
    fake_kraken.url = f"ws://127.0.0.1:{unused_tcp_port}/v2"
    feed = start("BTC/USD")
    await listener.until(lambda: "cannot be reached" in feed.report().problem)
    assert states(listener, LIVE) == []


async def test_feed_names_the_proxy_that_cannot_be_reached(start, listener, fake_kraken, unused_tcp_port, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{unused_tcp_port}")
    monkeypatch.delenv("https_proxy", raising=False)
    fake_kraken.url = "wss://kraken.invalid/v2"
    feed = start("BTC/USD")
    named = f"wss://kraken.invalid/v2 through the proxy http://127.0.0.1:{unused_tcp_port} cannot be reached: "
    await listener.until(lambda: feed.report().problem.startswith(named))
    assert "secret" not in feed.report().problem


async def test_the_watermark_that_ends_a_minute_states_the_trades_that_were_published_of_it(
    start, listener, fake_kraken, frame, heartbeats, play, skip
):
    minute = time.time() // 60 * 60
    rows = [
        {"symbol": "BTC/USD", "begin": minute - 60, "trades": 7},
        {"symbol": "BTC/USD", "begin": minute - 60, "trades": 5},
        {"symbol": "ETH/USD", "begin": minute - 120, "trades": 2},
    ]
    fake_kraken.scripts = [play(sends(*(frame("update", [row]) for row in rows)))]
    start("BTC/USD", "ETH/USD")
    stated = {int(minute) - 60: {"BTC/USD": 7}, int(minute) - 120: {"ETH/USD": 2}}
    await listener.until(lambda: len(listener.of("raw")) == 3)
    end = minute + 60 + GRACE + 1.0
    while time.time() < end and listener.stated != stated:
        processed = heartbeats()
        skip(0.5)
        await listener.until(lambda processed=processed: heartbeats() > processed)
    assert listener.stated == stated


async def test_the_next_watermark_states_the_trades_of_what_was_updated(start, listener, fake_kraken, frame, play):
    minute = time.time() // 60 * 60
    rows = [{"symbol": symbol, "begin": minute, "trades": n} for n, symbol in ((3, "BTC/USD"), (4, "ETH/USD"))]
    fake_kraken.scripts = [play(sends(frame("update", rows)))]
    start("BTC/USD", "ETH/USD")
    await listener.until(lambda: listener.stated.get(int(minute)) == {"BTC/USD": 3, "ETH/USD": 4})


async def test_a_feed_whose_messages_the_broker_refuses_is_not_live(start, listener, fake_kraken, frame, broker, play):
    broker.refuses = lambda topic: "/raw/" in topic
    fake_kraken.scripts = [play(sends(frame("update", [{"symbol": "BTC/USD", "begin": time.time() // 60 * 60}])))]
    feed = start("BTC/USD")
    await listener.until(lambda: not feed.report().live and feed.report().refused)
    assert feed.report().problem == "the broker refuses messages on ingress/raw/kraken/BTC-USD/1m: Not authorized"
