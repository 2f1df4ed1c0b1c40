import assert from "node:assert/strict";
import test from "node:test";

import { bytes, moment, number, rounded } from "../../assets/words.js";

// `src/report/words.rs` has the same cases.
test("figures are rounded as in the report", () => {
  const cases = [
    [42.5, 0, 42],
    [43.5, 0, 44],
    [0.5, 0, 0],
    [1.5, 0, 2],
    [14.9, 0, 15],
    [54.49, 0, 54],
    [-42.5, 0, -42],
    [-0.4, 0, 0],
    [3.55, 1, 3.5],
    [3.65, 1, 3.6],
    [0.25, 1, 0.2],
    [0.75, 1, 0.8],
    [1.005, 2, 1],
    [2.675, 2, 2.67],
    [0.125, 2, 0.12],
    [99.95, 1, 100],
  ];
  for (const [value, digits, wanted] of cases)
    assert.equal(rounded(value, digits), wanted, `${value} to ${digits} digits`);
});

test("numbers have no separator of thousands, as in the report", () => {
  assert.equal(number(9720), "9720");
  assert.equal(number(24, 1), "24.0");
});

test("times are as exact as the length of the video allows", () => {
  assert.equal(moment(4.53, 19.7), "4.5 s");
  assert.equal(moment(67, 92), "1:07");
  assert.equal(moment(67, 4000), "0:01:07");
});

test("sizes have a unit", () => {
  assert.equal(bytes(1_322_521), "1.3\u00a0MB");
  assert.equal(bytes(999), "999\u00a0B");
});
