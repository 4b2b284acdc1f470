import assert from "node:assert/strict";
import test from "node:test";

import { Series } from "../src/series.ts";
import { rfc3339 } from "../src/times.ts";

const START = 1_700_000_040;

function candle(minute, changes = {}) {
  const open = START + 60 * minute;
  return {
    open_time: rfc3339(open),
    close_time: rfc3339(open + 60),
    open: "1.10",
    high: "1.30",
    low: "1.00",
    close: "1.20",
    volume: "2.00000000",
    vwap: "1.15",
    trades: "3",
    closed: true,
    infilled: false,
    complete: true,
    revision: "0",
    source: "ws",
    at: rfc3339(open + 61),
    ...changes,
  };
}

const minutes = (series) => series.slots.map((slot) => [(slot.time - START) / 60, slot.candle !== null]);

test("candles are in order however they arrive, and a missing one is an empty slot", () => {
  const series = new Series(60);
  assert.equal(series.merge([candle(3), candle(0), candle(1)]), "all");
  assert.deepEqual(minutes(series), [[0, true], [1, true], [2, false], [3, true]]);
});

test("the newest candle and the one after it change the tail only", () => {
  const series = new Series(60);
  series.merge([candle(0), candle(1, { closed: false, trades: "1", at: rfc3339(START + 70) })]);
  assert.equal(series.merge([candle(1, { closed: false, trades: "2", at: rfc3339(START + 80) })]), "tail");
  assert.equal(series.merge([candle(1), candle(2, { closed: false })]), "tail");
  assert.deepEqual(minutes(series), [[0, true], [1, true], [2, true]]);
  assert.equal(series.last.closed, false);
});

test("a candle that skips a window, and one that fills a gap, change all slots", () => {
  const series = new Series(60);
  series.merge([candle(0)]);
  assert.equal(series.merge([candle(2)]), "all");
  assert.equal(series.merge([candle(1)]), "all");
  assert.deepEqual(minutes(series), [[0, true], [1, true], [2, true]]);
});

test("an older state of a window changes nothing", () => {
  const series = new Series(60);
  series.merge([candle(0, { revision: "1", close: "1.25" })]);
  const old = [candle(0), candle(0, { closed: false, revision: "1" }), candle(0, { revision: "1", at: rfc3339(START), close: "9" })];
  assert.equal(series.merge(old), "nothing");
  assert.equal(series.last.close, "1.25");
});

test("a correction replaces what it corrects", () => {
  const series = new Series(60);
  series.merge([candle(0), candle(1)]);
  assert.equal(series.merge([candle(0, { revision: "1", close: "1.01" })]), "all");
  assert.equal(series.first.close, "1.01");
});

test("a gap of years takes bounded memory", () => {
  const series = new Series(60);
  series.merge([candle(0), candle(3_000_000)]);
  assert.equal(series.slots.length, 1_002);
});

test("windows of a gap of the API are marked, and no longer once it is filled", () => {
  const series = new Series(60);
  series.merge([candle(0), candle(1), candle(3)]);
  const gap = { from: rfc3339(START + 60), to: rfc3339(START + 180), incomplete: false };
  const marked = () => series.slots.map((slot) => slot.gap !== null);
  assert.equal(series.setGaps([gap]), true);
  assert.deepEqual(marked(), [false, true, true, false]);
  assert.equal(series.setGaps([{ ...gap }]), false);
  series.merge([candle(4)]);
  assert.deepEqual(marked(), [false, true, true, false, false]);
  assert.equal(series.setGaps([]), true);
  assert.deepEqual(marked(), [false, false, false, false, false]);
});
