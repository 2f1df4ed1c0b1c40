import assert from "node:assert/strict";
import test from "node:test";

import { placeInWords } from "../../assets/work.js";

// Without a page there are no texts, so each text is its key.
test("the place in the queue is told with the time that is known", () => {
  const told = (ahead, starts_in_s) => placeInWords({ ahead, starts_in_s });
  assert.equal(told(0, null), "work.next");
  assert.equal(told(1, null), "work.ahead_one");
  assert.equal(told(3, 0), "work.ahead_many work.starts_soon");
  assert.equal(told(3, 59), "work.ahead_many work.starts_soon");
  assert.equal(told(3, 60), "work.ahead_many work.starts_minutes_one");
  assert.equal(told(3, 120), "work.ahead_many work.starts_minutes_many");
  assert.equal(told(1200, 5400), "work.ahead_many work.starts_hours_many");
  assert.equal(placeInWords(null), undefined);
});
