// Sends a video with its options; survives a lost connection.

import { headers, Problem, askForKey, pause } from "./api.js";

/** Waits until the service answers again. */
async function reachable(signal) {
  for (let tried = 1; ; tried += 1) {
    await pause(Math.min(500 * 2 ** tried, 8000), signal);
    try {
      await fetch("/healthz", { cache: "no-store", signal });
      return;
    } catch (error) {
      if (error.name === "AbortError") throw error;
    }
  }
}

function send(form, id, { signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/analyze-video");
    for (const [name, value] of Object.entries(headers({ Accept: "application/json", "Idempotency-Key": id }))) {
      request.setRequestHeader(name, value);
    }
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => event.lengthComputable && onProgress(event.loaded / event.total));
    request.addEventListener("load", () => {
      const body = request.response ?? {};
      if (request.status === 202) resolve(body.token);
      else reject(new Problem(request.status, { ...body, retry_after: Number(request.getResponseHeader("Retry-After")) || undefined }));
    });
    for (const end of ["error", "timeout"]) request.addEventListener(end, () => reject(new Problem(0)));
    request.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** The token of the analysis. A try that is repeated carries the same Idempotency-Key, so that nothing is analyzed twice. */
export async function upload(file, options, { signal, onProgress, onLost, onBack }) {
  const form = new FormData();
  for (const [name, value] of Object.entries(options)) if (value) form.append(name, value);
  form.append("video", file, "video");
  const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  for (;;) {
    try {
      return await send(form, id, { signal, onProgress });
    } catch (problem) {
      if (problem.name === "AbortError") throw problem;
      if (problem.status === 401 && (await askForKey())) continue;
      const again = problem.status === 0 || problem.status === 429 || problem.status === 503;
      if (!again) throw problem;
      onLost();
      if (problem.status !== 0) await pause((problem.retryAfter ?? 5) * 1000, signal);
      else await reachable(signal);
      onBack();
    }
  }
}
