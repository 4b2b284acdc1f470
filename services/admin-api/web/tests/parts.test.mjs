import assert from "node:assert/strict";
import test from "node:test";

import { bandOf, decimals, kindOf, remarks } from "../src/candle.ts";
import { find } from "../src/chart/search.ts";
import { attempts, clock } from "../src/health/gateways.ts";
import { auditLine, gapsLine, selfCheckLine } from "../src/health/repair.ts";
import { describe, ownership } from "../src/health/details.ts";
import { needed } from "../src/live.ts";
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
  assert.deepEqual(remarks(candle, null), ["closed", "revision 2", "source rest"]);
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

test("the details of an instance are shown as text", () => {
  const details = { symbols: ["BTC/USD"], feeds: { "f-0": "live" }, problems: [], ready: true, gaps: {}, last_commit: 1795499565.95 };
  assert.equal(ownership(details), "1 symbol: BTC/USD; 1 feed: f-0");
  assert.equal(describe(details), "problems none, ready yes, gaps none, last commit 2026-11-24 05:52:45 UTC");
});

test("a gap of the API is marked, whether or not the page has the candle", () => {
  const candle = { open: "1", close: "1", closed: true, complete: true, infilled: false, revision: "0", source: "ws" };
  const gap = { incomplete: false, state: "requested", windows: 5, filled: 2, attempts: 1 };
  assert.equal(bandOf(candle, null), "up");
  assert.equal(bandOf(null, null), "gap");
  assert.equal(bandOf(candle, gap), "gap");
  assert.equal(bandOf(candle, { ...gap, incomplete: true }), "incomplete");
  assert.deepEqual(remarks(candle, gap), ["closed", "missing in the store: requested: 2 of 5 filled, 1 failed attempt", "source ws"]);
});

test("a page that was hidden requests all candles since", () => {
  assert.equal(needed(2, 60), 11);
  assert.equal(needed(3_600, 60), 70);
  assert.equal(needed(86_400 * 30, 60), 5_000);
});

test("audit, gaps and self-check are a line each, marked if there is a problem", () => {
  const audit = { every_seconds: 300, horizon_seconds: 604_800, last_at: "2024-02-25T02:25:00.5Z", trouble: null };
  assert.equal(auditLine({ audit }).text, "last at 2024-02-25 02:25:00 UTC, every 5 min, 7 d back");
  assert.equal(auditLine({ audit: { ...audit, trouble: "away" } }).mark, "bad");
  const gaps = { waiting: 1, requested: 2, unfillable: 0, windows_missing: 9, filled_since_start: 4 };
  const line = gapsLine({ gaps });
  assert.equal(line.state, "3 open");
  assert.equal(line.text, "1 waiting, 2 requested, 0 unfillable; 9 candles missing; 4 candles filled since the start");
  assert.equal(gapsLine({ gaps: { ...gaps, waiting: 0, requested: 0 } }).mark, "good");
  const self_check = { checks: 3, candles: 180, unanswered: 1, last_at: null, open: 0, differences: [{ ended: "repaired" }, { ended: "taken-back" }] };
  assert.equal(selfCheckLine({ self_check }).text, "3 checks of 180 candles, none yet; 1 of the last differences repaired, 1 checks unanswered");
  assert.equal(selfCheckLine({ self_check: { ...self_check, open: 2 } }).mark, "bad");
});

test("a gateway reports its connection attempts and the clock's difference from Kraken's", () => {
  assert.equal(attempts({ connection_attempts: 3, connection_attempts_limit: 120 }), "3 of 120 in 10 min");
  assert.deepEqual([0.04, 0.3, -90].map((clock_skew_seconds) => clock({ clock_skew_seconds })), ["in sync", "0.3 s ahead", "90 s behind"]);
});
