// Sends a video in parts. What is there stays there: after a lost connection only the rest is sent. Where the parts would go
// straight to a bucket that does not let this page in, the whole file goes through the service instead.

import { askForKey, call, headers, json, pause, Problem } from "./api.js";

const AT_ONCE = 3;

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

/** A request with a body whose way can be followed. */
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
      } catch { /* a bucket speaks XML */ }
      reject(new Problem(request.status, { ...told, retry_after: Number(request.getResponseHeader("Retry-After")) || undefined }));
    });
    for (const end of ["error", "timeout"]) request.addEventListener(end, () => reject(new Problem(0)));
    request.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

const passes = (problem) => problem.status === 0 || problem.status === 429 || problem.status >= 500;

/** Does something until it is done or refused for good; a lost connection is told and waited for. */
async function insist(work, { signal, onLost, onBack }) {
  for (;;) {
    try {
      return await work();
    } catch (problem) {
      if (problem.name === "AbortError" || !(problem instanceof Problem) || !passes(problem)) throw problem;
      onLost();
      if (problem.status === 0) await reachable(signal);
      else await pause((problem.retryAfter ?? 3) * 1000, signal);
      onBack();
    }
  }
}

const post = (path, body, signal) =>
  json(path, { method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** Sends the parts that are missing; throws at the first that fails. */
async function sendParts(file, upload, { signal, onProgress }) {
  const sent = new Map(upload.parts.map((part) => [part.number, part.done ? part.size_bytes : 0]));
  const missing = upload.parts.filter((part) => !part.done);
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const tell = () => onProgress([...sent.values()].reduce((sum, bytes) => sum + bytes, 0) / file.size);
  const line = async () => {
    for (let part = missing.shift(); part; part = missing.shift()) {
      const url = new URL(part.url, location.href);
      // The service may call itself by another name than the one that led here.
      const target = url.pathname.startsWith("/v1/uploads/") ? url.pathname + url.search : url.href;
      const onPart = (bytes) => { sent.set(part.number, bytes); tell(); };
      await send("PUT", target, file.slice(part.offset, part.offset + part.size_bytes), { signal: either, onProgress: onPart });
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

/** The whole file in one request. A try that is repeated carries the same Idempotency-Key, so that nothing is analyzed twice. */
async function sendWhole(file, options, follow) {
  const form = new FormData();
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  form.append("video", file, "video");
  const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  const work = () => send("POST", "/analyze-video", form, {
    ...follow, named: headers({ Accept: "application/json", "Idempotency-Key": id }), onProgress: (bytes) => follow.onProgress(Math.min(1, bytes / file.size)),
  });
  for (;;) {
    try {
      return JSON.parse(await insist(work, follow)).token;
    } catch (problem) {
      if (problem.status !== 401 || !(await askForKey())) throw problem;
    }
  }
}

/** The token of the analysis of this file with these options. */
export async function upload(file, options, follow) {
  const { signal } = follow;
  let parts = await insist(() => post("/v1/uploads", { size_bytes: file.size }, signal), follow);
  const id = parts.upload;
  const elsewhere = new URL(parts.parts[0].url, location.href).pathname.startsWith("/v1/uploads/") === false;
  let failed = 0;
  await insist(async () => {
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
  const numbers = Object.fromEntries(Object.entries(options).map(([name, value]) => [name, name === "sample_every" || name === "max_faces" ? Number(value) : value]));
  const started = () => insist(() => post("/v1/analyses", { upload: id, ...numbers }, signal), follow);
  return (await started()).token;
}
