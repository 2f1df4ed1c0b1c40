import assert from "node:assert/strict";
import test, { beforeEach } from "node:test";

import * as library from "../../assets/library.js";

class Store {
  kept = new Map();
  getItem = (key) => this.kept.get(key) ?? null;
  setItem = (key, value) => this.kept.set(key, value);
}

beforeEach(() => {
  globalThis.localStorage = new Store();
});

test("a result is added once, and its entry is changed", () => {
  library.remember("a", { name: "a.mp4", status: "working" });
  library.remember("a", { status: "done", headline: "Mostly happy" });
  assert.equal(library.results().length, 1);
  const { at, ...entry } = library.resultOf("a");
  assert.deepEqual(entry, { token: "a", name: "a.mp4", status: "done", headline: "Mostly happy" });
  assert.ok(at <= Date.now());
});

test("an expired result is not listed", () => {
  library.remember("a", { expires: "2126-01-01T00:00:00Z" });
  library.remember("b", { expires: null });
  assert.deepEqual(
    library
      .results(Date.parse("2125-12-31T00:00:00Z"))
      .map(({ token }) => token)
      .sort(),
    ["a", "b"],
  );
  assert.deepEqual(
    library.results(Date.parse("2126-01-02T00:00:00Z")).map(({ token }) => token),
    ["b"],
  );
});

test("names and hidden people belong to one result, and are forgotten with it", () => {
  const title = (id) => `Person ${id}`;
  const people = new library.People("a", title);
  people.rename(2, "  Anna ");
  people.hide(3, true);
  const again = new library.People("a", title);
  assert.deepEqual([again.name(1), again.name(2), again.short(1), again.short(2)], ["Person 1", "Anna", "1", "Anna"]);
  assert.ok(again.isHidden(3) && !again.isHidden(2));
  assert.equal(new library.People("b", title).name(2), "Person 2");
  again.rename(2, " ");
  assert.equal(again.name(2), "Person 2");
  library.forget("a");
  assert.ok(!new library.People("a", title).isHidden(3));
});

test("a browser that keeps nothing breaks nothing", () => {
  globalThis.localStorage = {
    getItem() {
      throw new Error("denied");
    },
    setItem() {
      throw new Error("denied");
    },
  };
  library.remember("a", {});
  const people = new library.People("a", () => "");
  people.rename(1, "Anna");
  assert.equal(people.name(1), "Anna");
  assert.deepEqual(library.results(), []);
});
