// The client in clients/javascript against a running service, over connections that break.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";

import { AnalysisFailed, Client, ProblemError, SessionEnded } from "../../clients/javascript/index.js";

const { VISAGE_TEST_BASE: base, VISAGE_TEST_KEY: key, VISAGE_TEST_VIDEOS: videos } = process.env;
const blob = async (variable, type) => {
  const path = process.env[variable];
  return new File([await readFile(path)], basename(path), { type });
};
const clip = await blob("VISAGE_TEST_LONG_CLIP", "video/mp4");
const shortClip = await blob("VISAGE_TEST_CLIP", "video/mp4");
const largeClip = await blob("VISAGE_TEST_LARGE_CLIP", "video/x-msvideo");
const picture = await blob("VISAGE_TEST_PICTURE", "image/png");
const retries = { firstPauseS: 0.01 };

// Loses the first answer of every call. The service did what was asked, and the client does not know.
const calls = [];
const lossy = async (address, init) => {
  const response = await fetch(address, init);
  const call = `${init.method} ${new URL(address).pathname}`;
  calls.push(call);
  if (calls.filter((other) => other === call).length > 1) return response;
  await response.arrayBuffer();
  throw new TypeError("the connection broke");
};
const visage = new Client(base, { key, fetch: lossy, retries });
const all = async (rows) => {
  const found = [];
  for await (const row of rows) found.push(row);
  return found;
};
const code = (expected) => (error) => {
  assert.ok(error instanceof ProblemError && error.requestId && error.message.endsWith("."));
  assert.equal(error.code, expected);
  return true;
};

const token = await visage.upload(clip, { notice: "given" });
const result = await visage.wait(token);
assert.equal(result.analysis.summary.dominant_emotion, "happy");
assert.equal(result.file_name, clip.name);
assert.equal(calls.filter((call) => call === "POST /analyze-video").length, 2);
const listed = await all(visage.analyses({ status: "done" }));
assert.equal(listed.filter((analysis) => analysis.created_at >= result.created_at).length, 1);
const rows = await all(visage.timeline(token));
assert.equal(rows.length, result.analysis.faces[0].frames);
assert.equal((await visage.timelineCsv(token)).trim().split("\n").length, rows.length + 1);
assert.match(await visage.report(token, { language: "de" }), /lang="de"/);
const { url } = await visage.share(token);
assert.equal((await (await fetch(url, { headers: { accept: "application/json" } })).json()).status, "done");
assert.equal((await visage.notice({ language: "es" })).language, "es");
const first = await visage.pictures([picture, picture], { notice: "given", gaze: false });
const later = await visage.pictures([picture], { face_state: first.face_state });
assert.deepEqual(
  [...first.pictures, ...later.pictures].map(({ faces }) => faces[0].id),
  [1, 1, 1],
);
await assert.rejects(visage.upload(new Blob(["nothing"])), code("not_a_video"));
await assert.rejects(visage.upload(shortClip, { max_faces: 0 }), code("bad_option"));
await assert.rejects(visage.uploadAddress("https://10.0.0.1/talk.mp4", { gaze: false }), code("bad_video_url"));
await visage.erase(token);
await assert.rejects(visage.result(token), code("unknown_token"));

const seen = [];
const large = await visage.upload(largeClip, { onProgress: (sent) => seen.push(sent), speech: false });
assert.ok(seen.length > 1 && seen.at(-1) === largeClip.size);
await assert.rejects(visage.wait(large, { timeoutS: 0 }), { name: "TimeoutError" });
assert.equal((await visage.wait(large, { timeoutS: 300 })).options.speech, false);
const { upload } = await visage.beginUpload(largeClip.size);
const stop = new AbortController();
const stopped = visage.sendParts(largeClip, upload, { signal: stop.signal, onProgress: () => stop.abort() });
await assert.rejects(stopped, { name: "AbortError" });
// Another page would go on like this.
seen.length = 0;
await visage.sendParts(largeClip, upload, { onProgress: (sent) => seen.push(sent) });
const parts = new Set(calls.filter((call) => call.startsWith(`PUT /v1/uploads/${upload}`)));
assert.equal(seen.length, parts.size - 1);
const started = await visage.start(upload, { sample_every: 100, name: "again.avi" });
assert.equal(await visage.start(upload, { sample_every: 100, name: "again.avi" }), started);
assert.equal((await visage.wait(started)).file_name, "again.avi");
await assert.rejects(visage.sendParts(shortClip, (await visage.beginUpload(largeClip.size)).upload), RangeError);
assert.equal((await visage.analyze(shortClip, { detail: "expressions" })).status, "done");

const pair = await Promise.all([5, 7].map((sample_every) => visage.upload(clip, { sample_every })));
for (const one of pair) await visage.wait(one);
const [same, other] = (await visage.compare([pair[0], [pair[0], 1], pair[1]])).differences;
assert.deepEqual([other.from, other.to], pair);
assert.deepEqual(new Set(Object.values(same.figures).map(({ value }) => value)), new Set([0]));
const bothGroups = [
  ["before it", pair],
  ["2", [pair[1]]],
];
for (const groups of [new Map(bothGroups), { "before it": pair, after: [[pair[1], 1]] }]) {
  const { subjects } = await visage.compare([], { groups });
  assert.deepEqual(
    subjects.map(({ takes }) => takes.length),
    [2, 1],
  );
}
await assert.rejects(visage.compare(pair, { person: 9 }), code("not_comparable"));
await assert.rejects(visage.compare(pair.slice(1)), code("bad_parameter"));

// Accepted, and refused when the name is resolved.
const hidden = "https://localhost/a.mp4";
const startedBatch = await visage.startBatch(
  [`${videos}/a.mp4`, { video_url: `${videos}/b.mp4`, file_name: "two.avi" }, hidden, "https://10.0.0.1/c.mp4"],
  { max_faces: 2, notice: "given" },
);
const fractions = [];
const ended = await visage.waitBatch(startedBatch.id, {
  timeoutS: 120,
  onProgress: ({ fraction }) => fractions.push(fraction),
});
assert.deepEqual([ended.status, fractions.at(-1)], ["ended", 1]);
assert.deepEqual(
  ended.items.map(({ status, error }) => [status, error?.code]),
  [
    ["done", undefined],
    ["done", undefined],
    ["failed", "address_refused"],
    ["refused", "bad_video_url"],
  ],
);
assert.equal((await visage.result(ended.items[1].token)).file_name, "two.avi");
assert.equal(calls.filter((call) => call === "POST /v1/batches").length, 2);
assert.equal((await all(visage.batches())).filter(({ created_at }) => created_at >= ended.created_at).length, 1);
const idempotencyKey = `batch of ${ended.id}`;
const again = [
  await visage.startBatch([hidden], { idempotencyKey }),
  await visage.startBatch([hidden], { idempotencyKey }),
];
assert.equal(again[0].id, again[1].id);
await assert.rejects(visage.startBatch(["https://10.0.0.1/c.mp4"]), code("no_item_accepted"));
// More videos than can be analyzed before the next call.
const { id: long } = await visage.startBatch(Array(30).fill(`${videos}/a.mp4`));
await assert.rejects(visage.waitBatch(long, { timeoutS: 0 }), { name: "TimeoutError" });
await visage.cancelBatch(long);
const cancelled = await visage.batch(long);
assert.ok(cancelled.status === "cancelled" && cancelled.counts.cancelled > 0);
for (const id of [long, ended.id]) {
  await visage.cancelBatch(id, { erase: true });
  await assert.rejects(visage.batch(id), code("unknown_batch"));
}

const refused = [];
const live = await visage.live({
  name: "Call",
  speech: true,
  notice: "given",
  onRefused: (error) => refused.push(error),
});
const one = await live.picture(picture, 5);
assert.deepEqual([one.type, one.picture, one.time_s, one.faces[0].id], ["faces", 1, 0, 1]);
// The first of two may be skipped, the last one never.
const two = await Promise.all([live.picture(picture, 5.5), live.picture(picture, 6)]);
assert.deepEqual([two[0].picture, two[1].picture, two[1].type, two[1].faces?.[0].id], [2, 3, "faces", 1]);
await assert.rejects(live.picture(new Blob(["nothing"]), 7), (error) => error.code === "not_a_picture");
live.sound(new Int16Array(16000), 5);
live.sound(new Int16Array(16000), 1);
const last = await live.finish();
assert.deepEqual([last.reason, last.status, last.people], ["finish", "done", [{ id: 1, face: 1 }]]);
assert.deepEqual(refused.length, 1);
assert.equal((await visage.result(last.token)).file_name, "Call");
await assert.rejects(live.picture(picture, 8), (error) => error instanceof SessionEnded && error.token === last.token);
await assert.rejects(visage.live({ max_faces: 0 }), (error) => error.code === "bad_option");
await assert.rejects(new Client("http://127.0.0.1:9").live(), SessionEnded);

// What a service answers that fails or is busy. A real one cannot be made to.
const answers = [
  new Response(null, { status: 503, headers: { "retry-after": "0" } }),
  new Response("<html>Bad gateway</html>", { status: 502 }),
  Response.json({ status: "failed", error: { detail: "The decoder crashed." } }),
];
const failing = new Client(base, { retries, fetch: async () => answers.shift() });
await assert.rejects(failing.wait("a"), (error) => error instanceof AnalysisFailed && /crashed/.test(error.message));
assert.equal(answers.length, 0);
let asked = 0;
const busy = new Client(base, {
  fetch: async () => {
    asked += 1;
    return Response.json({ code: "quota_used_up" }, { status: 429, headers: { "retry-after": "86400" } });
  },
});
await assert.rejects(busy.result("a"), (error) => error.code === "quota_used_up" && asked === 1);
await assert.rejects(new Client("http://127.0.0.1:9", { retries }).result("a"), TypeError);
console.log("visage-client for JavaScript: ok");
