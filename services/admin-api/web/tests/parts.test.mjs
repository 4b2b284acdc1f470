import assert from "node:assert/strict";
import test from "node:test";

import { decimals, kindOf, remarks } from "../src/candle.ts";
import { find } from "../src/chart/search.ts";
import { describe, ownership } from "../src/health/details.ts";
import { chartHash, parseRoute } from "../src/route.ts";
import { duration, shown, ticks } from "../src/times.ts";

const entries = ["ETH/USD", "BTC/EUR", "BTC/USD", "WBTC/USD", "USDT/USD"].map((symbol) => ({ symbol, live: true }));
const found = (text) => find(entries, text).map((entry) => entry.symbol);

test("a search finds symbols however they are written, the nearest first", () => {
  assert.deepEqual(found("btc"), ["BTC/EUR", "BTC/USD", "WBTC/USD"]);
  for (const text of ["btc-usd", "BTCUSD", "btc/usd"]) assert.equal(found(text)[0], "BTC/USD");
  assert.deepEqual(found("eth"), ["ETH/USD"]);
  assert.deepEqual(found("nothing"), []);
  assert.equal(found("").length, entries.length);
});

test("a route survives its way through the address, and nonsense is the chart", () => {
  assert.deepEqual(parseRoute(chartHash("BTC/USD", "4h")), { page: "chart", symbol: "BTC/USD", timeframe: "4h" });
  assert.deepEqual(parseRoute("#/health"), { page: "health" });
  for (const hash of ["", "#", "#/nonsense/BTC"]) assert.equal(parseRoute(hash).page, "chart");
  assert.deepEqual(parseRoute("#/chart/%E0%A4%A/2m"), { page: "chart", symbol: null, timeframe: null });
});

test("an incomplete candle is that before anything else, and a flat one goes up", () => {
  const candle = { open: "1", close: "1", closed: true, complete: true, infilled: false, revision: "2", source: "rest" };
  assert.equal(kindOf(candle), "up");
  assert.equal(kindOf({ ...candle, close: "0.9" }), "down");
  assert.equal(kindOf({ ...candle, infilled: true }), "infilled");
  assert.equal(kindOf({ ...candle, infilled: true, complete: false }), "incomplete");
  assert.deepEqual(remarks(candle), ["closed", "revision 2", "source rest"]);
});

test("times, durations and decimals read as they should", () => {
  assert.equal(shown("2024-02-25T02:15:00Z"), "2024-02-25 02:15:00 UTC");
  assert.deepEqual([1.24, 119, 150, 7_300, 200_000].map(duration), ["1.2 s", "119 s", "3 min", "2 h", "2.3 d"]);
  assert.deepEqual(["77400.0", "5", "0.00000001"].map(decimals), [1, 0, 8]);
});

test("a time axis has round marks, days where it passes midnight", () => {
  const day = Date.UTC(2026, 0, 31) / 1000;
  assert.deepEqual(ticks(day - 3_600, day + 3_600, 3).map(({ label }) => label), ["23:00", "01-31", "01:00"]);
  assert.ok(ticks(0, 31_536_000, 10).length <= 11);
});

test("what an instance says of itself is told in words", () => {
  const details = { symbols: ["BTC/USD"], feeds: { "f-0": "live" }, problems: [], ready: true, gaps: {}, last_commit: 1795499565.95 };
  assert.equal(ownership(details), "1 symbol: BTC/USD; 1 feed: f-0");
  assert.equal(describe(details), "problems none, ready yes, gaps none, last commit 2026-11-24 05:52:45 UTC");
});
