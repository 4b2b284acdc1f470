import assert from "node:assert/strict";
import test from "node:test";

import { parseExact } from "../src/exact.ts";

test("numbers keep every digit that they were written with", () => {
  assert.deepEqual(parseExact('{"a":51600.10,"b":-0.00000001,"c":[1,2E+1],"d":16174536464690282295}'), {
    a: "51600.10",
    b: "-0.00000001",
    c: ["1", "2E+1"],
    d: "16174536464690282295",
  });
});

test("what looks like a number inside of a text stays a part of it", () => {
  assert.deepEqual(parseExact(String.raw`{"at":"2024-02-25T02:15:00Z","q\"1":"a \"2\" \\","t":true,"n":null}`), {
    at: "2024-02-25T02:15:00Z",
    'q"1': 'a "2" \\',
    t: true,
    n: null,
  });
});

test("what is no JSON is an error", () => {
  assert.throws(() => parseExact("<html>"), SyntaxError);
});
