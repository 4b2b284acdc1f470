"""Minutes of the past from Kraken's trades: by REST, and through the gateway."""

import asyncio
import time
from decimal import Decimal
from pathlib import Path

import httpx
import msgspec
import polars as pl
import pytest
from archive_files import rolled_up, write_minutes
from memory_broker import MemoryBroker, MemoryBus
from stores import damage, killed, stored
from test_import import NOW, START, some_minutes

from crypto_ingress.errors import CommandError
from crypto_ingress.history import backfilling
from crypto_ingress.history.backfilling import Backfiller, HistoryByGateway, TradesByRest
from crypto_ingress.history.kraken_rest import kraken_rest
from crypto_ingress.history.reading import exact_rows
from ingress_common.bus import Message
from ingress_common.model import Candle, History, Range, Source
from ingress_common.payloads import decode_history_request, encode_history
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.tls import TlsFiles
from ingress_common.topics import Topics
from ingress_store import SqliteStore
from kraken_gateway.kraken.rest import Pair, Trade, TradePage, parse_envelope, parse_ohlc, parse_trades
from kraken_simulator import Simulator, SimulatorConfig

DAY = 86_400
M1 = Timeframe.M1


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore(tmp_path / "candles.db") as opened:
        await opened.bootstrap()
        yield opened


class FixedSource:
    """A source of given minutes; records the requested ranges."""

    def __init__(self, rows: list[tuple]) -> None:
        self.rows = rows
        self.requested: list[tuple[int, int]] = []
        self.fails_at: int | None = None

    async def minutes(self, symbol: str, start: int, end: int) -> pl.DataFrame:
        self.requested.append((start, end))
        if self.fails_at is not None and len(self.requested) > self.fails_at:
            raise CommandError("Kraken does not answer")
        names = ("time", "open", "high", "low", "close", "volume", "trades")
        schema = {name: pl.Int64() if name in ("time", "trades") else pl.String() for name in names}
        rows = [row for row in self.rows if start <= row[0] < end]
        frame = exact_rows(pl.DataFrame(rows, schema=schema, orient="row"))
        return frame.with_columns(vwap=pl.lit(None, dtype=pl.String))


async def fill(store, source, start: int = START, end: int | None = None, now: float = NOW):
    (report,) = await Backfiller(store, source, lambda: now, lambda *_: None).run(["BTC/USD"], start, end)
    return report


def candles_of_file(rows: list[tuple], folder: Path, start: int, end: int) -> dict[Timeframe, list[tuple]]:
    """The candles that a file of `rows` makes, for all windows inside of [start, end)."""
    made = rolled_up(write_minutes(folder / "XBTUSD_1.csv", rows))
    return {t: [c[:6] for c in v if start <= c[0] and c[0] + t.seconds <= end] for t, v in made.items()}


async def candles_in(store) -> dict[Timeframe, list[tuple]]:
    found = await stored(store)
    return {t: [c[:6] for c in found[t]] for t in TIMEFRAMES}


@pytest.mark.parametrize("days", [4, 8])
async def test_days_make_the_same_candles_as_a_file(store, tmp_path, days):
    rows = some_minutes(count=days * 720)
    source = FixedSource(rows)
    end = START + days * DAY - 60
    await fill(store, source, end=end)
    assert source.requested[0] == (START, START + DAY)
    assert await candles_in(store) == candles_of_file(rows, tmp_path, START, end)


@pytest.mark.parametrize(("seconds", "minutes"), [(0.9, 9), (1.0, 10)])
async def test_minute_that_ended_within_the_grace_waits(store, seconds, minutes):
    source = FixedSource(some_minutes(count=20, every=1))
    await fill(store, source, now=START + 600 + seconds)
    assert source.requested == [(START, START + 60 * minutes)]


async def test_windows_that_are_known_in_part_are_not_written(store, tmp_path):
    """A candle over minutes that nobody requested would be wrong, and take the place of Kraken's own."""
    rows = some_minutes(count=10 * 720)
    krakens = candle(START, "77.5", trades=99)
    weeks = [msgspec.structs.replace(krakens, timeframe=Timeframe.W1, open_time=t) for t in (START, START + 7 * DAY)]
    await store.write(weeks, [])
    start, end = START + 3 * DAY + 20 * 3600 + 1200, START + 9 * DAY + 600
    await fill(store, FixedSource(rows), start, end)
    expected = candles_of_file(rows, tmp_path, start, end)
    assert [len(expected[t]) for t in (Timeframe.H1, Timeframe.D1, Timeframe.W1)] == [123, 5, 0]
    assert {**await candles_in(store), Timeframe.W1: []} == expected
    assert await store.candles("BTC/USD", Timeframe.W1, limit=10) == weeks


async def test_week_of_a_first_trade_is_written_once_all_of_it_was_requested(store, tmp_path):
    listed = START + 2 * DAY + 36_000
    rows = [row for row in some_minutes(count=8 * 720) if row[0] >= listed]
    source = FixedSource(rows)
    source.fails_at = 5
    with pytest.raises(CommandError):
        await fill(store, source, end=START + 8 * DAY - 60)
    source.fails_at = None
    await fill(store, source, end=START + 8 * DAY - 60)
    assert await candles_in(store) == candles_of_file(rows, tmp_path, START, START + 8 * DAY - 60)


@pytest.mark.parametrize("kill_at", range(6, 14))
async def test_killed_backfill_resumes(store, tmp_path, kill_at):
    """A day is written timeframe by timeframe; it counts as there only once all of them are."""
    rows = some_minutes(count=3 * 720)
    end = START + 3 * DAY - 60
    with killed(store, kill_at):
        await fill(store, FixedSource(rows), end=end)
    await fill(store, FixedSource(rows), end=end)
    assert await candles_in(store) == candles_of_file(rows, tmp_path, START, end)


async def test_backfill_resumes_and_requests_only_absent_minutes(store):
    source = FixedSource(some_minutes(count=4 * 720))
    source.fails_at = 2
    with pytest.raises(CommandError, match="does not answer"):
        await fill(store, source, end=START + 4 * DAY - 60)
    source.fails_at, source.requested = None, []
    await fill(store, source, end=START + 4 * DAY - 60)
    assert source.requested == [(START + 2 * DAY, START + 3 * DAY), (START + 3 * DAY, START + 4 * DAY - 60)]
    source.requested = []
    await fill(store, source, end=START + 4 * DAY - 60)
    assert source.requested == []


async def test_gaps_that_the_same_run_fills_are_not_reported(store):
    rows = some_minutes(count=3 * 720)
    await fill(store, FixedSource(rows), START + 2 * DAY, START + 3 * DAY)
    assert (await fill(store, FixedSource(rows), end=START + 3 * DAY)).gaps == []


async def test_only_the_gap_is_requested_and_the_candles_over_it_are_completed(store):
    rows = some_minutes(count=2 * 720)
    await fill(store, FixedSource(rows), end=START + 2 * DAY - 60)
    whole = await stored(store)
    sql = "DELETE FROM candles WHERE timeframe = '1m' AND open_time BETWEEN ? AND ?"
    await store._run(lambda connection: connection.execute(sql, (START + 6000, START + 6300)))
    source = FixedSource(rows)
    await fill(store, source, end=START + 2 * DAY - 60)
    assert source.requested == [(START + 6000, START + 6360)]
    assert await stored(store) == whole
    for timeframe in TIMEFRAMES:
        assert all(c.complete for c in await store.candles("BTC/USD", timeframe, limit=5000))


@pytest.mark.parametrize("row", ["forming", "misaligned"])
async def test_row_that_is_no_minute_does_not_hide_an_absent_one(store, row):
    rows = some_minutes(count=720)
    await fill(store, FixedSource(rows), end=START + DAY)
    whole = (await stored(store))[M1]
    await damage(store, M1, START + 6000, **({"closed": False} if row == "forming" else {"time": START + 6030}))
    source = FixedSource(rows)
    await fill(store, source, end=START + DAY)
    assert source.requested == [(START + 6000, START + 6060)]
    assert [c for c in (await stored(store))[M1] if c[0] != START + 6030] == whole


async def test_stored_price_that_is_no_number_is_named(store):
    rows = some_minutes(count=720)
    await fill(store, FixedSource(rows), end=START + 6000)
    await damage(store, M1, START + 5940, close="abc")
    with pytest.raises(CommandError, match=r"^BTC/USD 1m .*T01:39:00Z: expected a number as close, got 'abc'$"):
        await fill(store, FixedSource(rows), end=START + DAY)


async def test_minutes_of_the_simulator_are_its_truth(store):
    now = time.time()
    start, end = int(now // 60 * 60) - 1800, int(now // 60 * 60) - 600
    config = SimulatorConfig(
        port=0, control_port=0, symbols=("BTC/USD",), history_weeks=1, rest_rate=1000, rest_burst=1000
    )
    async with Simulator(config) as simulator, kraken_rest(simulator.rest_url, TlsFiles()) as rest:
        source = TradesByRest(rest, await rest.pairs())
        await fill(store, source, start, end, now)
        with pytest.raises(CommandError, match="no such pair"):
            await source.minutes("NO/WAY", start, end)
        async with httpx.AsyncClient() as http:
            answer = await http.get(
                f"{simulator.control_url}/truth/BTC-USD", params={"timeframe": "1m", "from": start, "to": end}
            )
            truth = answer.json()["candles"]
    minutes = [c for c in await store.candles("BTC/USD", M1, limit=5000) if c.trades]
    assert len(minutes) == len(truth) > 5
    for ours, theirs in zip(minutes, truth, strict=True):
        assert rfc3339(ours.open_time) == theirs["open_time"]
        assert ours.trades == theirs["trades"]
        for name in ("open", "high", "low", "close", "volume"):
            assert float(getattr(ours, name)) == pytest.approx(float(theirs[name]), rel=1e-12)
        assert ours.low <= ours.vwap <= ours.high
        assert ours.source is Source.TRADES


def recorded(name: str) -> msgspec.Raw:
    file = Path(__file__).parents[3].parent / "shared" / "data" / "kraken" / name
    if not file.is_file():
        pytest.skip(f"no recorded answer: expected {name} in ../shared/data/kraken")
    return parse_envelope(200, file.read_bytes())


class Recorded:
    """REST Trades that answers with one recorded page."""

    def __init__(self, page: TradePage) -> None:
        self.page = page

    async def trades(self, _pair: Pair, _since: int) -> TradePage:
        return msgspec.structs.replace(self.page, last=None)


async def test_minutes_of_recorded_trades_are_krakens_own_with_their_digits():
    page = parse_trades(recorded("rest_trades_XBTUSDT.json"))
    rows = parse_ohlc(recorded("rest_ohlc_XBTUSDT_1m.json"), M1)
    start, end = M1.ceil(float(page.trades[0].time)), M1.floor(float(page.trades[-1].time))
    source = TradesByRest(Recorded(page), {"BTC/USDT": Pair("XBTUSDT", 1)})
    made = {row["time"]: row for row in (await source.minutes("BTC/USDT", start, end)).iter_rows(named=True)}
    krakens = {row.open_time: row for row in rows if row.trades and start <= row.open_time < end}
    assert len(krakens) > 50
    assert set(made) == set(krakens)
    for time_, row in krakens.items():
        assert made[time_]["trades"] == row.trades
        for name in ("open", "high", "low", "close", "volume", "vwap"):
            assert str(made[time_][name]) == str(getattr(row, name)), (time_, name)


def trade(number: int, time_: float, price: str) -> Trade:
    return Trade(number, Decimal(str(time_)), Decimal(price), Decimal(1))


async def test_trades_of_one_order_keep_their_order():
    # An order that sells through three prices; all its trades have one time.
    trades = tuple(trade(number, START + 5.25, price) for number, price in ((7, "102.5"), (8, "101.5"), (9, "100.5")))
    source = TradesByRest(Recorded(TradePage(trades, None)), {"BTC/USD": Pair("XBTUSD", 1)})
    (row,) = (await source.minutes("BTC/USD", START, START + 60)).iter_rows(named=True)
    assert [str(row[name]) for name in ("open", "high", "low", "close")] == ["102.5", "102.5", "100.5", "100.5"]


async def test_trades_without_numbers_all_count_in_the_order_of_the_response():
    trades = tuple(
        trade(0, START + second, price) for second, price in ((5.25, "102.5"), (5.25, "100.5"), (6, "101.5"))
    )
    source = TradesByRest(Recorded(TradePage(trades, None)), {"BTC/USD": Pair("XBTUSD", 1)})
    (row,) = (await source.minutes("BTC/USD", START, START + 60)).iter_rows(named=True)
    assert [str(row[name]) for name in ("open", "high", "low", "close")] == ["102.5", "102.5", "100.5", "101.5"]
    assert row["trades"] == 3


def candle(time_: int, price: str, trades: int = 1) -> Candle:
    p = Decimal(price)
    return Candle(
        symbol="BTC/USD", timeframe=M1, open_time=time_, open=p, high=p, low=p, close=p, volume=Decimal("0.5"), vwap=p,
        trades=trades, closed=True, infilled=not trades, complete=True, revision=0, source=Source.TRADES, at=NOW,
    )  # fmt: skip


async def test_gateway_responds_over_the_bus_in_several_batches(store):
    broker, topics = MemoryBroker(), Topics()
    requests: list[tuple[float, float]] = []

    async def gateway(bus: MemoryBus) -> None:
        async for event in bus.events():
            if isinstance(event, Message):
                event.ack()
                request = decode_history_request(event.payload)
                requests.append((request.start, request.end))
                middle = (request.start + request.end) // 2
                for begin, stop, price in ((request.start, middle, "100.5"), (middle, request.end, "101.5")):
                    rows = (candle(int(begin), price),)
                    batch = History("BTC/USD", M1, Source.TRADES, Range(begin, stop), rows)
                    await bus.publish(topics.history("BTC/USD", M1), encode_history(batch))

    async with MemoryBus(broker, client_id="gateway") as bus:
        await bus.subscribe(topics.history_requests())
        answering = asyncio.create_task(gateway(bus))
        source = HistoryByGateway(MemoryBus(broker, client_id="backfill"), topics)
        async with source.open(["BTC/USD"]):
            await fill(store, source, end=START + 600)
        answering.cancel()
    assert requests == [(START, START + 600)]
    minutes = await store.candles("BTC/USD", M1, limit=100)
    assert [(c.open_time - START, str(c.close), c.trades) for c in minutes if c.trades] == [
        (0, "100.5", 1),
        (300, "101.5", 1),
    ]
    assert len(minutes) == 10


async def test_unresponsive_gateway_is_reported(store, monkeypatch):
    monkeypatch.setattr(backfilling, "_RESPONSE_SECONDS", 0.05)
    source = HistoryByGateway(MemoryBus(MemoryBroker(), client_id="backfill"), Topics())
    with pytest.raises(BaseException, match=r"BTC/USD: expected the gateway to answer|unhandled errors"):
        async with source.open(["BTC/USD"]):
            await fill(store, source, end=START + 600)
