import assert from "node:assert/strict";
import test from "node:test";

import {
  addresses,
  bestRow,
  boxAt,
  compareFigures,
  mainFace,
  rowAt,
  samplesPerSecond,
  shortened,
  shownEmotion,
  tellingMoment,
} from "../../assets/runs.js";

const shares = (given) => ({ angry: 0, disgust: 0, fear: 0, happy: 0, sad: 0, surprise: 0, neutral: 0, ...given });
const row = (time_s, given, bbox = { x: 0, y: 0, width: 10, height: 10 }, quality = 1) => ({
  time_s,
  emotions: shares(given),
  bbox,
  quality,
});
const run = (emotion, start_s, end_s) => ({ emotion, start_s, end_s });

test("the row of a time is the nearest one, if the face was seen about then", () => {
  const rows = [row(0), row(1), row(2), row(9)];
  assert.equal(rowAt(rows, 1.4, 1), rows[1]);
  assert.equal(rowAt(rows, 1.6, 1), rows[2]);
  assert.equal(rowAt(rows, 5, 1), undefined);
  assert.equal(rowAt([], 0, 1), undefined);
});

test("a box moves between two samples, and stays where the next sample is far", () => {
  const rows = [
    row(0, {}, { x: 0, y: 0, width: 10, height: 10 }),
    row(1, {}, { x: 10, y: 4, width: 20, height: 10 }),
    row(9),
  ];
  assert.deepEqual(boxAt(rows, rows[0], 0.5, 1), { x: 5, y: 2, width: 15, height: 10 });
  assert.deepEqual(boxAt(rows, rows[1], 1.4, 1), rows[1].bbox);
});

test("the emotion shown is that of the run, also where a single sample differs", () => {
  const face = { segments: [run("sad", 0, 4), run("happy", 4, 8)] };
  assert.equal(shownEmotion(face, row(3, { happy: 0.9 }), 3), "sad");
  assert.equal(shownEmotion(face, row(4, { happy: 0.9 }), 4), "happy");
  assert.equal(shownEmotion(face, row(7.9, {}), 8.1), "happy", "just after the last run");
  assert.equal(
    shownEmotion({ segments: [] }, row(1, { fear: 0.6, sad: 0.4 }), 1),
    "fear",
    "results of older versions have no runs",
  );
});

test("the player opens at the strongest sample of the longest run of the headline's last emotion", () => {
  const face = {
    id: 1,
    frames: 9,
    dominant_emotion: "happy",
    story: { kind: "in_turn", first: "sad", then: "happy" },
    segments: [run("happy", 0, 1), run("sad", 1, 5), run("happy", 5, 9)],
  };
  const rows = [
    row(0.5, { happy: 1 }),
    row(2, { sad: 0.9 }),
    row(6, { happy: 0.7 }),
    row(7, { happy: 0.95 }),
    row(8, { happy: 0.8 }),
  ];
  assert.equal(
    tellingMoment([face], () => rows),
    7,
  );
  assert.equal(
    tellingMoment([], () => rows),
    undefined,
  );
  assert.equal(
    tellingMoment([{ ...face, story: undefined, segments: [] }], () => rows),
    0.5,
  );
});

test("the main person is the one with most samples", () => {
  assert.equal(
    mainFace([
      { id: 1, frames: 3 },
      { id: 2, frames: 8 },
    ]).id,
    2,
  );
  assert.equal(mainFace([]), undefined);
});

test("the picture of a person is made from the best and largest sample", () => {
  const large = { x: 0, y: 0, width: 80, height: 90 };
  const rows = [row(0, {}, undefined, 0.9), row(1, {}, large, 0.9), row(2, {}, large, 0.3)];
  assert.equal(bestRow(rows), rows[1]);
  assert.equal(bestRow([]), undefined);
});

test("a video below a minute is sampled five times a second, a longer one as the service does", () => {
  assert.equal(samplesPerSecond("normal", 59.9), 5);
  assert.equal(samplesPerSecond("normal", 60), undefined);
  assert.ok(samplesPerSecond("quick", 10) < 5 && samplesPerSecond("fine", 10) > 5);
  assert.ok(samplesPerSecond("fine", 600) > samplesPerSecond("quick", 600));
});

test("mail addresses are split at commas, semicolons and spaces", () => {
  assert.deepEqual(addresses(" ann@example.org, bob@example.org;eve@example.org\n"), [
    "ann@example.org",
    "bob@example.org",
    "eve@example.org",
  ]);
  assert.deepEqual(addresses(""), []);
});

test("two figures differ if their intervals do not overlap", () => {
  const of = (value, low, high) => ({ value, interval: [low, high] });
  assert.equal(compareFigures(of(50, 40, 60), of(80, 61, 90)), "second");
  assert.equal(compareFigures(of(80, 61, 90), of(50, 40, 60)), "first");
  assert.equal(compareFigures(of(50, 40, 60), of(60, 55, 65)), "same");
  assert.equal(compareFigures(of(50, 40, 60), of(60, 60, 65)), "same", "both ends belong to an interval");
  assert.equal(compareFigures({ value: 50 }, of(80, 61, 90)), "unknown");
  assert.equal(compareFigures(undefined, of(80, 61, 90)), "unknown");
  assert.equal(compareFigures({ value: null, interval: [0, 1] }, of(80, 61, 90)), "unknown");
});

test("the runs of a long video are shortened to its whole length", () => {
  const alternating = (count) => Array.from({ length: count }, (_, n) => run(n % 2 ? "happy" : "sad", n, n + 1));
  assert.deepEqual(shortened(alternating(4), 5, 10), [
    ["sad", 0, 0.2],
    ["happy", 0.2, 0.4],
    ["sad", 0.4, 0.6],
    ["happy", 0.6, 0.8],
  ]);
  const long = shortened(alternating(200), 210, 100);
  assert.ok(long.length <= 100, long.length);
  assert.ok(long[0][1] < 0.01 && Math.abs(long.at(-1)[2] - 200 / 210) < 0.011, "from the first run to the last");
  const [once] = shortened([run("fear", 0, 1), run("fear", 1, 1.5), run("fear", 1.5, 1.8), run("fear", 1.8, 2)], 2, 3);
  assert.deepEqual(once, ["fear", 0, 1], "neighbours with the same emotion are one");
});
