// Calls of the service. If a key is needed, the person is asked for it once. It is kept until the tab is closed, and
// sent as a header. The browser never sends it by itself, so no other page can use it.

import { byId } from "./dom.js";
import { language, t, text } from "./words.js";

const KEY = "visage-key";

export const key = () => sessionStorage.getItem(KEY) ?? "";
export const forgetKey = () => sessionStorage.removeItem(KEY);
export const keepKey = (value) => sessionStorage.setItem(KEY, value);

/** Returns the headers of a call: the language of errors, and the key if there is one. */
export const headers = (more = {}) => ({
  "Accept-Language": language,
  ...(key() && { Authorization: `Bearer ${key()}` }),
  ...more,
});

/**
 * An error answer of the service, or a lost connection (status 0), with a message in the reader's language: that of the
 * page for this code, otherwise that of the service.
 */
export class Problem extends Error {
  constructor(status, body = {}) {
    const values = { detail: body.detail ?? "", ...body };
    super(
      text(`error.${body.code}`, values) ??
        (status === 0 ? t("error.connection") : (body.detail ?? body.error ?? t("error.internal"))),
    );
    this.status = status;
    this.code = status === 0 ? "connection" : (body.code ?? "internal");
    this.requestId = body.request_id;
    this.retryAfter = body.retry_after;
  }
}

export async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(response.status, {
    ...body,
    retry_after: Number(response.headers.get("Retry-After")) || undefined,
  });
}

/** The share link in the address of the page. It stands for a key. */
export const share = () => new URLSearchParams(location.search).get("share");
export const isShared = () => share() !== null;
/** Returns the address of a part of a result, with the share link of the page if there is one. */
export const shared = (path) =>
  isShared() && path.startsWith("/results/")
    ? `${path}${path.includes("?") ? "&" : "?"}share=${encodeURIComponent(share())}`
    : path;

/** Returns the answer of a call, or throws a Problem. Asks for a key if it is missing or wrong. */
export async function call(path, options = {}) {
  for (;;) {
    let response;
    try {
      response = await fetch(shared(path), {
        ...options,
        headers: headers({ Accept: "application/json", ...options.headers }),
        cache: "no-cache",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0);
    }
    if (response.ok) return response;
    const problem = await problemOf(response);
    if (response.status !== 401 || !(await askForKey())) throw problem;
  }
}

export const json = async (path, options) => (await call(path, options)).json();

let asking;
/** Asks for a key. Resolves to true if one was given. */
export function askForKey() {
  const dialog = byId("key-dialog");
  if (!dialog) return Promise.resolve(false);
  asking ??= new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.addEventListener(
      "close",
      () => {
        asking = undefined;
        const given = byId("key-field").value.trim();
        byId("key-field").value = "";
        const taken = dialog.returnValue === "ok" && given !== "";
        if (taken) keepKey(given);
        resolve(taken);
      },
      { once: true },
    );
    dialog.showModal();
  });
  return asking;
}

export const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    });
  });

/**
 * Yields server-sent events as {event, data} until one of `ends`. Opens an interrupted stream again, and calls
 * `onLost` and `onBack`. EventSource is not used, because it cannot send a key.
 */
export async function* events(path, ends, { signal, onLost, onBack }) {
  let tried = 0;
  for (;;) {
    try {
      const response = await call(path, { signal, headers: { Accept: "text/event-stream" } });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let buffer = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        buffer += value;
        const blocks = buffer.split("\n\n");
        buffer = blocks.pop();
        for (const block of blocks) {
          const fields = Object.fromEntries(
            block
              .split("\n")
              .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]),
          );
          if (!fields.event) continue;
          if (tried > 0) onBack?.();
          tried = 0;
          yield { event: fields.event, data: JSON.parse(fields.data || "{}") };
          if (ends.includes(fields.event)) return;
        }
      }
    } catch (error) {
      if (error.name === "AbortError" || (error instanceof Problem && error.status >= 400 && error.status < 500))
        throw error;
    }
    tried += 1;
    onLost?.();
    await pause(Math.min(500 * 2 ** tried, 8000), signal);
  }
}
