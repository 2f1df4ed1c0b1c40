import assert from "node:assert/strict";
import test from "node:test";

import { placeLabels } from "../../assets/labels.js";

const FRAME = { x: 0, y: 0, width: 390, height: 220 };
const TALL = 20;

const overlaps = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

function isGood(faces, frame = FRAME) {
  const labels = placeLabels(faces, frame, TALL);
  labels.forEach((label, at) => {
    const isInside =
      label.x >= frame.x &&
      label.y >= frame.y &&
      label.x + label.width <= frame.x + frame.width &&
      label.y + label.height <= frame.y + frame.height;
    assert.ok(isInside, `label ${at} is inside: ${JSON.stringify(label)}`);
    labels.slice(at + 1).forEach((other) => assert.ok(!overlaps(label, other), `label ${at} covers another`));
  });
  return labels;
}

const face = (x, y, side = 40, long = 90) => ({ x, y, width: side, height: side, long });

test("a label stands above its face", () => {
  const [label] = isGood([face(100, 100)]);
  assert.ok(label.x === 100 && label.y < 100 - TALL && label.y > 100 - 2 * TALL);
});

test("labels at the edges of the picture stay inside it", () => {
  for (const [x, y] of [
    [0, 0],
    [370, 0],
    [0, 200],
    [370, 200],
    [-20, -20],
  ])
    isGood([face(x, y)]);
  isGood([face(10, 10, 380, 900)]);
});

test("the labels of five faces side by side do not cover each other", () => {
  isGood([0, 1, 2, 3, 4].map((n) => face(20 + n * 45, 90)));
  isGood([0, 1, 2, 3, 4].map((n) => face(150 + n * 4, 90 + n * 4)));
});

test("labels stay inside a picture that does not begin at 0", () => {
  isGood([face(30, 5), face(60, 5)], { x: 25, y: 0, width: 200, height: 300 });
});
