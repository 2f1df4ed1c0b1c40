// Sends a video in parts. After a lost connection only the missing parts are sent. If the parts go straight to a
// bucket and the bucket refuses requests of this page, the whole file is sent through the service instead.

import { askForKey, call, headers, json, pause, Problem } from "./api.js";
import { settings } from "./words.js";

const AT_ONCE = 3;
/** What the page sends with each video and session: its notice was shown, in this version. */
export const NOTICE = { notice: "given", notice_version: settings.notice_version };

/** Waits until the service answers again. */
async function reachable(signal) {
  for (let tried = 1; ; tried += 1) {
    await pause(Math.min(300 * 2 ** tried, 8000), signal);
    try {
      await fetch("/healthz", { cache: "no-store", signal });
      return;
    } catch (error) {
      if (error.name === "AbortError") throw error;
    }
  }
}

/** Sends a request with a body, and reports the number of sent bytes to `onProgress`. */
function send(method, url, body, { signal, named = {}, onProgress }) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    request.open(method, url);
    for (const [name, value] of Object.entries(named)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded));
    request.addEventListener("load", () => {
      if (request.status < 300) return resolve(request.responseText);
      let told = {};
      try {
        told = JSON.parse(request.responseText);
      } catch {
        /* a bucket answers with XML */
      }
      reject(
        new Problem(request.status, {
          ...told,
          retry_after: Number(request.getResponseHeader("Retry-After")) || undefined,
        }),
      );
    });
    for (const end of ["error", "timeout"]) request.addEventListener(end, () => reject(new Problem(0)));
    request.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

const isTemporary = (problem) => problem.status === 0 || problem.status === 429 || problem.status >= 500;

/** Repeats `work` until it succeeds or fails permanently. Reports a lost connection and waits until it is back. */
async function retried(work, { signal, onLost, onBack }) {
  for (;;) {
    try {
      return await work();
    } catch (problem) {
      if (problem.name === "AbortError" || !(problem instanceof Problem) || !isTemporary(problem)) throw problem;
      onLost();
      if (problem.status === 0) await reachable(signal);
      else await pause((problem.retryAfter ?? 3) * 1000, signal);
      onBack();
    }
  }
}

const post = (path, body, signal) =>
  json(path, { method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** Sends the missing parts. Throws the first error. */
async function sendParts(file, upload, { signal, onProgress }) {
  const sent = new Map(upload.parts.map((part) => [part.number, part.done ? part.size_bytes : 0]));
  const missing = upload.parts.filter((part) => !part.done);
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const tell = () => onProgress([...sent.values()].reduce((sum, bytes) => sum + bytes, 0) / file.size);
  const line = async () => {
    for (let part = missing.shift(); part; part = missing.shift()) {
      const url = new URL(part.url, location.href);
      // The host in the URL of the service may differ from the one in the address bar, so keep the path only.
      const target = url.pathname.startsWith("/v1/uploads/") ? url.pathname + url.search : url.href;
      const onPart = (bytes) => {
        sent.set(part.number, bytes);
        tell();
      };
      await send("PUT", target, file.slice(part.offset, part.offset + part.size_bytes), {
        signal: either,
        onProgress: onPart,
      });
      onPart(part.size_bytes);
    }
  };
  tell();
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, line));
  } finally {
    stop.abort();
  }
}

/** Sends the whole file in one request. All attempts have the same Idempotency-Key, so it is analyzed only once. */
async function sendWhole(file, options, follow) {
  const form = new FormData();
  for (const [name, value] of Object.entries({ ...options, ...NOTICE }))
    for (const one of [value].flat()) form.append(name, one);
  form.append("video", file, "video");
  const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  const work = () =>
    send("POST", "/analyze-video", form, {
      ...follow,
      named: headers({ Accept: "application/json", "Idempotency-Key": id }),
      onProgress: (bytes) => follow.onProgress(Math.min(1, bytes / file.size)),
    });
  for (;;) {
    try {
      return JSON.parse(await retried(work, follow)).token;
    } catch (problem) {
      if (problem.status !== 401 || !(await askForKey())) throw problem;
    }
  }
}

/** Uploads a file, starts its analysis, and returns the token. */
export async function upload(file, options, follow) {
  const { signal } = follow;
  const { language } = options;
  let parts = await retried(() => post("/v1/uploads", { size_bytes: file.size, language, ...NOTICE }, signal), follow);
  const id = parts.upload;
  const elsewhere = new URL(parts.parts[0].url, location.href).pathname.startsWith("/v1/uploads/") === false;
  let failed = 0;
  await retried(async () => {
    if (failed > 0) parts = await json(`/v1/uploads/${id}`, { signal });
    try {
      await sendParts(file, parts, follow);
    } catch (problem) {
      failed += 1;
      const nothing = parts.parts.every((part) => !part.done);
      if (elsewhere && nothing && failed > 1) throw new Problem(403, { code: "bucket" });
      throw problem;
    }
  }, follow).catch((problem) => {
    if (problem.code === "bucket") parts = undefined;
    else throw problem;
  });
  if (!parts) {
    await call(`/v1/uploads/${id}`, { method: "DELETE", signal }).catch(() => {});
    return sendWhole(file, options, follow);
  }
  const started = () => retried(() => post("/v1/analyses", { upload: id, ...options }, signal), follow);
  return (await started()).token;
}
