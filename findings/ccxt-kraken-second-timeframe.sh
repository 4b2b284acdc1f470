#!/usr/bin/env bash
# ccxt 4.5.90, ccxt.pro.kraken: watch_ohlcv(symbol, "5m") gives 1m candles when "1m" of the same symbol is watched too.
#
# Expected: candles whose times are multiples of five minutes, or an error (Kraken allows one interval per symbol and
# connection and says so).
# What happens: the second call sends no subscription at all, and returns the candles of the first interval without any
# sign. The message hash that finds subscription and answer, "ohlcv::BTC/USD", holds no timeframe.
#
# A small server in this script stands in for Kraken: Assets, AssetPairs, and the ohlc channel as Kraken documents it.
# Needs Python 3.11 or newer with pip. Exit code 0: as described; 1: something else happened.
#
# Output seen:
#   ccxt 4.5.90
#   subscriptions received: [1]
#   watch_ohlcv 1m: times 600 660 720 780 840 900, close 5.0
#   watch_ohlcv 5m: times 600 660 720 780 840 900, close 5.0
#   as described: the 5m call returned 1m candles
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ccxt==4.5.90
cat > "$folder/reproduce.py" <<'PYTHON'
import asyncio
import json
import sys
from datetime import UTC, datetime

import ccxt.pro
from aiohttp import WSMsgType, web

ASSET = {"aclass": "currency", "decimals": 10, "display_decimals": 5, "status": "enabled"}
ASSETS = {"XXBT": ASSET | {"altname": "XBT"}, "ZUSD": ASSET | {"altname": "USD"}}
PAIR = {
    "altname": "XBTUSD", "wsname": "XBT/USD", "aclass_base": "currency", "base": "XXBT", "aclass_quote": "currency",
    "quote": "ZUSD", "lot": "unit", "pair_decimals": 1, "lot_decimals": 8, "lot_multiplier": 1, "leverage_buy": [],
    "leverage_sell": [], "fees": [], "fees_maker": [], "ordermin": "0.00005", "costmin": "0.5", "tick_size": "0.1",
    "status": "online",
}
intervals = []


async def rest(request):
    results = {"Assets": ASSETS, "AssetPairs": {"XXBTZUSD": PAIR}}
    return web.json_response({"error": [], "result": results[request.match_info["method"]]})


def row(begin, interval):
    text = datetime.fromtimestamp(begin, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    end = datetime.fromtimestamp(begin + interval * 60, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    values = {"open": 5.0, "high": 5.0, "low": 5.0, "close": 5.0, "trades": 1, "volume": 1.0, "vwap": 5.0}
    times = {"interval_begin": f"{text}.000000000Z", "interval": interval, "timestamp": f"{end}.000000Z"}
    return {"symbol": "BTC/USD", **values, **times}


def ohlc(kind, rows):
    return {"channel": "ohlc", "type": kind, "timestamp": "1970-01-01T00:15:30.000000000Z", "data": rows}


async def websocket(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    subscribed = None
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        asked = json.loads(message.data)
        if asked["method"] == "ping":
            await socket.send_json({"method": "pong"})
            continue
        interval = asked["params"]["interval"]
        intervals.append(interval)
        answer = {"method": "subscribe", "req_id": asked["req_id"]}
        if subscribed is not None:
            error = "Already subscribed to one ohlc interval on this symbol"
            await socket.send_json(answer | {"error": error, "success": False, "symbol": "BTC/USD"})
            continue
        subscribed = interval
        result = {"channel": "ohlc", "interval": interval, "snapshot": True, "symbol": "BTC/USD"}
        await socket.send_json(answer | {"result": result, "success": True})
        size = interval * 60
        await socket.send_json(ohlc("snapshot", [row(begin, interval) for begin in range(600, 900, size)]))
        for _ in range(20):
            await asyncio.sleep(0.2)
            await socket.send_json(ohlc("update", [row(900, interval)]))
    return socket


async def main():
    application = web.Application()
    application.router.add_get("/0/public/{method}", rest)
    application.router.add_get("/v2", websocket)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = "127.0.0.1:%d" % site._server.sockets[0].getsockname()[1]
    kraken = ccxt.pro.kraken({"newUpdates": False})
    kraken.urls["api"]["public"] = f"http://{address}"
    kraken.urls["api"]["ws"]["publicV2"] = f"ws://{address}/v2"
    print("ccxt", ccxt.__version__)
    try:
        one = await kraken.watch_ohlcv("BTC/USD", "1m")
        async with asyncio.timeout(10):
            five = await kraken.watch_ohlcv("BTC/USD", "5m")
            one = await kraken.watch_ohlcv("BTC/USD", "1m")
    finally:
        await kraken.close()
        await runner.cleanup()
    print("subscriptions received:", intervals)
    for name, candles in (("1m", one), ("5m", five)):
        times = " ".join(str(candle[0] // 1000) for candle in candles)
        print(f"watch_ohlcv {name}: times {times}, close {candles[-1][4]}")
    if intervals == [1] and any(candle[0] // 1000 % 300 for candle in five):
        print("as described: the 5m call returned 1m candles")
        return 0
    print("not as described")
    return 1


sys.exit(asyncio.run(main()))
PYTHON
"$folder/venv/bin/python" "$folder/reproduce.py"
