import assert from "node:assert/strict";
import test from "node:test";

import { History } from "../../assets/live_history.js";

const face = (id, emotion, eye_contact = null) => ({ id, state: { emotion }, eye_contact });

test("runs of one emotion follow one another without a gap", () => {
  const history = new History(60);
  history.push(0, [face(1, "neutral")]);
  history.push(0.5, [face(1, "neutral")]);
  history.push(1, [face(1, "happy")]);
  history.push(1.5, [face(1, "happy")]);
  assert.deepEqual(history.people()[0].runs, [
    { emotion: "neutral", start_s: 0, end_s: 1 },
    { emotion: "happy", start_s: 1, end_s: 1.5 },
  ]);
});

test("a person who was away for more than a second has a gap and is no longer in view", () => {
  const history = new History(60);
  history.push(0, [face(1, "happy"), face(2, "sad")]);
  history.push(2, [face(2, "sad")]);
  assert.deepEqual(
    history.people().map(({ id, isSeen }) => [id, isSeen]),
    [
      [2, true],
      [1, false],
    ],
  );
  history.push(2.5, [face(1, "happy"), face(2, "sad")]);
  assert.deepEqual(history.known.get(1).runs, [
    { emotion: "happy", start_s: 0, end_s: 0 },
    { emotion: "happy", start_s: 2.5, end_s: 2.5 },
  ]);
});

test("pictures that come slowly make no gaps", () => {
  const history = new History(60);
  for (const time of [0, 1.5, 4]) history.push(time, [face(1, "happy")]);
  assert.deepEqual(history.people()[0].runs, [{ emotion: "happy", start_s: 0, end_s: 4 }]);
});

test("only the last minute is kept, at its place in the ribbon", () => {
  const history = new History(60);
  history.push(0, [face(1, "sad")]);
  for (let time = 10; time <= 100; time += 1) history.push(time, [face(2, "happy")]);
  const [person, ...others] = history.people();
  assert.deepEqual([person.id, others.length], [2, 0]);
  assert.deepEqual(history.placed(person.runs), [{ emotion: "happy", start_s: 0, end_s: 60 }]);
});

test("in the first minute the ribbon begins at its left end", () => {
  const history = new History(60);
  history.push(2, [face(1, "happy")]);
  history.push(2.9, [face(1, "happy")]);
  assert.deepEqual(history.placed(history.people()[0].runs), [{ emotion: "happy", start_s: 2, end_s: 2.9 }]);
});

test("eye contact changes after a moment, so that a blink changes nothing", () => {
  const history = new History(60);
  const contact = (time, met) => {
    history.push(time, [face(1, "happy", met)]);
    return history.people()[0].contact;
  };
  assert.equal(contact(0, null), undefined);
  assert.equal(contact(0.1, true), true);
  assert.equal(contact(1, true), true);
  assert.equal(contact(1.1, false), true);
  assert.equal(contact(1.3, true), true);
  assert.equal(contact(2, false), true);
  assert.equal(contact(2.2, false), true);
  assert.equal(contact(2.5, false), false);
  assert.equal(contact(2.6, null), false);
  assert.equal(contact(3.1, null), undefined);
});
