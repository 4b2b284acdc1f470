import json
from decimal import Decimal
from typing import Any

import pytest

from kraken_simulator import frames
from kraken_simulator.candles import OhlcCandle
from kraken_simulator.digits import Digits
from kraken_simulator.text import fixed, rfc3339_shortest, units

from .conftest import MINUTE_START, Client, shared_data

CAPTURES = (
    "v2_captured_btcusd_1m_2026-10-06.jsonl",
    "v2_captured_btcusdt_1m_2026-09-10.jsonl",
    "v2_captured_misc_2026-09-25.jsonl",
)


def recorded(name: str) -> list[str]:
    return shared_data(f"kraken/{name}").read_text().splitlines()


def keys(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, keys(inner)) for key, inner in value.items()]
    return [keys(value[0])] if isinstance(value, list) and value else None


def first_of(fits: Any) -> dict[str, Any]:
    found = (json.loads(line) for name in CAPTURES for line in recorded(name))
    return next(frame for frame in found if fits(frame))


@pytest.mark.parametrize("name", CAPTURES)
def test_recorded_rows_are_rendered_digit_by_digit(name: str) -> None:
    rows = 0
    for line in recorded(name):
        frame = json.loads(line, parse_float=Decimal)
        for row in frame["data"] if frame.get("channel") == "ohlc" else ():
            prices = [units(str(row[field]), 1) for field in ("open", "high", "low", "close")]
            volume, vwap = units(str(row["volume"]), 8), units(str(row["vwap"]), 1)
            begin = _seconds(row["interval_begin"])
            candle = OhlcCandle(begin, *prices, volume, vwap * volume, row["trades"])
            assert frames.ohlc_row(row["symbol"], Digits(1, 8, 1), candle, 1) in line
            rows += 1
    assert rows


def _seconds(text: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(text).timestamp())


async def test_frames_have_the_keys_and_the_order_of_recorded_ones(client: Client) -> None:
    async with client.connect() as socket:
        status = await socket.frame(channel="status")
        await socket.subscribe("BTC/USD", "XBT/USD")
        ack, snapshot = await socket.frame(method="subscribe"), await socket.frame(type="snapshot")
        refusal = await socket.frame(success=False)
        client.clock.advance(30)
        update = await socket.frame(channel="ohlc", type="update")
        await socket.request("ping", req_id=1)
        pong = await socket.frame(method="pong")
    assert keys(status) == keys(first_of(lambda frame: frame.get("channel") == "status"))
    assert keys(ack) == keys(first_of(lambda frame: frame.get("result", {}).get("channel") == "ohlc"))
    assert keys(snapshot) == keys(first_of(lambda frame: frame.get("type") == "snapshot"))
    assert keys(update) == keys(first_of(lambda f: f.get("channel") == "ohlc" and f["type"] == "update"))
    assert keys(refusal) == keys(first_of(lambda frame: "symbol" in frame and "error" in frame))
    other = [json.loads(line) for line in recorded("v2_captured_other.jsonl")]
    assert keys(pong) == keys(next(frame for frame in other if frame.get("method") == "pong"))
    assert frames.HEARTBEAT in recorded(CAPTURES[0])


async def test_request_id_follows_the_method_as_recorded(client: Client) -> None:
    async with client.connect() as socket:
        await socket.subscribe("BTC/USD", interval=60, req_id=121)
        ack = await socket.frame(method="subscribe")
    other = [json.loads(line) for line in recorded("v2_captured_other.jsonl")]
    assert keys(ack) == keys(other[0])


async def test_snapshot_has_ten_traded_candles_oldest_first_for_every_interval(client: Client) -> None:
    for interval in (1, 5, 15, 60, 240, 1440, 10080):
        async with client.connect() as socket:
            await socket.subscribe("BTC/USD", "ADA/EUR", interval=interval)
            for symbol in ("BTC/USD", "ADA/EUR"):
                rows = (await socket.frame(type="snapshot"))["data"]
                begins = [_seconds(row["interval_begin"]) for row in rows]
                assert len(rows) == 10
                assert begins == sorted(set(begins))
                assert all(begin % (interval * 60) == 0 for begin in begins)
                assert all(row["trades"] > 0 and row["symbol"] == symbol for row in rows)
                assert all(_seconds(row["timestamp"]) - b == interval * 60 for row, b in zip(rows, begins, strict=True))


async def test_connection_id_exceeds_a_signed_64_bit_integer(client: Client) -> None:
    async with client.connect() as socket:
        status = await socket.frame(channel="status")
    assert 2**63 <= status["data"][0]["connection_id"] < 2**64


def test_times_have_as_many_digits_as_they_need() -> None:
    start = int(MINUTE_START) * 10**9
    assert rfc3339_shortest(start) == "2023-11-14T22:14:00Z"
    assert rfc3339_shortest(start + 918_011_000) == "2023-11-14T22:14:00.918011Z"
    assert rfc3339_shortest(start + 264_627_814) == "2023-11-14T22:14:00.264627814Z"


def test_numbers_keep_trailing_zeros() -> None:
    assert fixed(774_000, 1) == "77400.0"
    assert fixed(5, 8) == "0.00000005"
    assert units("1E+1", 8) == 1_000_000_000
