import json
from itertools import pairwise

import pytest

from kraken_simulator.market import Market
from kraken_simulator.rest.history import ohlc_json, trades_json
from kraken_simulator.sources.recorded import recorded_source

from .conftest import Client, running, shared_data


def recorded_market() -> Market:
    market = Market(recorded_source("BTC/USDT", shared_data("kraken/rest_trades_XBTUSDT.json"), now=0, play_from=0))
    market.advance(2_000_000_000 * 10**9)
    return market


def test_recorded_trades_give_the_recorded_ohlc_rows() -> None:
    market = recorded_market()
    response = json.loads(shared_data("kraken/rest_ohlc_XBTUSDT_1m.json").read_text())["result"]
    mine = json.loads(ohlc_json(market, "XBTUSDT", 1, response["XBTUSDT"][-1][0] + 7, None))["result"]
    whole = [row for row in response["XBTUSDT"] if row[0] * 10**9 > market.tape.time(0)]
    assert len(whole) >= 409
    assert mine["XBTUSDT"][-len(whole) :] == whole
    assert mine["last"] == response["last"]


def test_recorded_trades_are_given_as_recorded() -> None:
    recorded = json.loads(shared_data("kraken/rest_trades_XBTUSDT.json").read_text())["result"]
    mine = json.loads(trades_json(recorded_market(), "XBTUSDT", 0, 1_000))["result"]
    assert [row[:2] + row[3:5] for row in mine["XBTUSDT"]] == [row[:2] + row[3:5] for row in recorded["XBTUSDT"]]
    differences = [abs(a[2] - b[2]) for a, b in zip(mine["XBTUSDT"], recorded["XBTUSDT"], strict=True)]
    assert max(differences) < 1e-6


@pytest.mark.parametrize("interval", [1, 5, 15, 60, 240])
async def test_ohlc_has_720_committed_rows_and_the_forming_one_without_gaps(interval: int) -> None:
    async with running(history_weeks=30) as client:
        result = (await client.rest("OHLC", pair="ADAEUR", interval=interval))["result"]
    rows, size = result["ADAEUR"], interval * 60
    forming = int(client.clock.now) // size * size
    assert len(rows) == 721
    assert rows[-1][0] == forming
    assert result["last"] == forming - size
    for earlier, later in pairwise(rows):
        assert later[0] - earlier[0] == size
        if later[7] == 0:
            assert later[1:] == [earlier[4]] * 4 + ["0.0", "0.00000000", 0]
    assert any(row[7] == 0 for row in rows) or interval == 240


async def test_weekly_and_daily_history_fill_all_rows_by_default() -> None:
    async with running(history_weeks=None) as client:
        for interval in (1440, 10080):
            rows = (await client.rest("OHLC", pair="XBTUSD", interval=interval))["result"]["XXBTZUSD"]
            assert len(rows) == 721
            assert sum(row[7] > 0 for row in rows) > 400


async def test_since_is_exclusive_and_keeps_the_forming_row(client: Client) -> None:
    rows = (await client.rest("OHLC", pair="XBTUSD"))["result"]["XXBTZUSD"]
    after = (await client.rest("OHLC", pair="XBTUSD", since=rows[-4][0]))["result"]["XXBTZUSD"]
    assert after == rows[-3:]
    assert (await client.rest("OHLC", pair="XBTUSD", since=rows[-1][0]))["result"]["XXBTZUSD"] == rows[-1:]


@pytest.mark.parametrize("name", ["XBTUSD", "XBT/USD", "XXBTZUSD"])
async def test_pair_is_known_by_all_its_names(client: Client, name: str) -> None:
    assert set((await client.rest("OHLC", pair=name))["result"]) == {"XXBTZUSD", "last"}


@pytest.mark.parametrize("method", ["OHLC", "Trades", "Ticker", "AssetPairs"])
async def test_pair_that_is_requested_by_its_v2_name_is_keyed_by_it(client: Client, method: str) -> None:
    """As recorded from Kraken in September 2026."""
    assert set((await client.rest(method, pair="BTC/USD"))["result"]) - {"last"} == {"BTC/USD"}


async def test_errors_come_with_status_200(client: Client) -> None:
    assert await client.rest("OHLC", pair="NOSUCH") == {"error": ["EQuery:Unknown asset pair"]}
    assert await client.rest("OHLC", pair="XBTUSD", interval=2) == {"error": ["EGeneral:Invalid arguments"]}
    assert await client.rest("Trades", pair="XBTUSD", count=1001) == {"error": ["EGeneral:Invalid arguments"]}


async def test_calls_over_the_rate_are_refused_for_each_pair() -> None:
    async with running(rest_burst=2) as client:
        responses = [await client.rest("OHLC", pair="XBTUSD") for _ in range(3)]
        assert [response["error"] for response in responses] == [[], [], ["EGeneral:Too many requests"]]
        assert (await client.rest("OHLC", pair="ADAEUR"))["error"] == []
        client.clock.advance(1)
        assert (await client.rest("OHLC", pair="XBTUSD"))["error"] == []


async def test_trades_page_by_last_without_loss_or_repetition(client: Client) -> None:
    seen, since = [], "0"
    while True:
        result = (await client.rest("Trades", pair="ADAEUR", since=since, count=400))["result"]
        if not result["ADAEUR"]:
            break
        seen += result["ADAEUR"]
        since = result["last"]
    assert [row[6] for row in seen] == list(range(1, len(seen) + 1))
    assert len(seen) > 800
    assert (await client.rest("Trades", pair="ADAEUR"))["result"]["ADAEUR"] == seen[-1000:]


async def test_asset_pairs_have_legacy_names_and_the_recorded_fields(client: Client) -> None:
    recorded = json.loads(shared_data("kraken/rest_asset_pairs.json").read_text())["result"]["XBTUSDT"]
    async with running(symbols=("BTC/USD", "DOGE/USD", "BTC/USDT")) as other:
        pairs = (await other.rest("AssetPairs"))["result"]
    assert {key: pair["wsname"] for key, pair in pairs.items()} == {
        "XXBTZUSD": "XBT/USD",
        "XDGUSD": "XDG/USD",
        "XBTUSDT": "XBT/USDT",
    }
    ours = pairs["XBTUSDT"]
    # The recording of 2025 lacks it; all rows of September 2026 have it.
    assert ours.pop("execution_venue") == "international"
    assert [key for key in recorded if key in ours] == list(ours)
    assert (ours["base"], ours["quote"], ours["altname"]) == ("XXBT", "USDT", "XBTUSDT")


async def test_system_status_has_the_recorded_form(client: Client) -> None:
    recorded = json.loads(shared_data("kraken/rest_system_status.json").read_text())
    response = await client.rest("SystemStatus")
    assert list(response["result"]) == list(recorded["result"])
    assert response["result"]["status"] == "online"


async def test_assets_have_their_legacy_keys_and_can_be_chosen(client: Client) -> None:
    assets = (await client.rest("Assets"))["result"]
    assert {key: row["altname"] for key, row in assets.items()} == {
        "ADA": "ADA",
        "XXBT": "XBT",
        "ZEUR": "EUR",
        "ZUSD": "USD",
    }
    # The fields of a row and their types, as recorded from Kraken in September 2026.
    assert assets["ZUSD"] == {
        "aclass": "currency",
        "altname": "USD",
        "decimals": 4,
        "display_decimals": 2,
        "collateral_value": 1.0,
        "status": "enabled",
        "margin_rate": "0.02",
    }
    assert set((await client.rest("Assets", asset="XBT,ZEUR"))["result"]) == {"XXBT", "ZEUR"}
    assert await client.rest("Assets", asset="NOSUCH") == {"error": ["EQuery:Unknown asset"]}


async def test_time_is_given_in_both_forms(client: Client) -> None:
    result = (await client.rest("Time"))["result"]
    assert result == {"unixtime": 1_700_000_040, "rfc1123": "Tue, 14 Nov 23 22:14:00 +0000"}


@pytest.mark.parametrize(
    ("info", "field"), [("leverage", "leverage_buy"), ("fees", "fees_maker"), ("margin", "margin_stop")]
)
async def test_asset_pairs_can_be_limited_by_info(client: Client, info: str, field: str) -> None:
    row = (await client.rest("AssetPairs", pair="XBTUSD", info=info, country_code="DE"))["result"]["XXBTZUSD"]
    assert field in row
    assert "altname" not in row


async def test_asset_version_selects_display_names(client: Client) -> None:
    row = (await client.rest("AssetPairs", assetVersion=1))["result"]["BTC/USD"]
    assert (row["base"], row["quote"], row["wsname"]) == ("BTC", "USD", "XBT/USD")
    assert set((await client.rest("OHLC", pair="XBTUSD", assetVersion=1))["result"]) == {"BTC/USD", "last"}
    assert "BTC" in (await client.rest("Assets", assetVersion=1))["result"]


async def test_spread_has_a_bid_and_an_ask_for_each_trade(client: Client) -> None:
    result = (await client.rest("Spread", pair="XBTUSD"))["result"]
    assert len(result["XXBTZUSD"]) == 200
    assert all(float(bid) < float(ask) for _, bid, ask in result["XXBTZUSD"])
