// The client of visage, for browsers and Node. It needs `fetch`, `FormData` and `Blob`, live sessions `WebSocket`, and
// nothing else.

/** Larger videos are sent in parts, so that a broken connection costs one part. */
const FORM_LIMIT = 8 * 1024 * 1024;
const LONGEST_WAIT_S = 30;
/** Seconds until a batch is asked for again, if the service does not say. */
const BATCH_PAUSE_S = 2;
const RETRIED = new Set([429, 502, 503, 504]);

/** The service refused a request. */
export class ProblemError extends Error {
  constructor(response, body) {
    super(body.detail ?? `The service answered ${response.status}.`);
    this.name = "ProblemError";
    this.status = response.status;
    this.code = body.code ?? null;
    this.requestId = response.headers.get("x-request-id");
    this.members = body;
  }
}

/** The analysis ended without a result. */
export class AnalysisFailed extends Error {
  constructor(result) {
    super(result.error?.detail ?? `The analysis was ${result.status}.`);
    this.name = "AnalysisFailed";
    this.result = result;
  }
}

/** A live session has ended, so there is no answer. */
export class SessionEnded extends Error {
  constructor(token) {
    super("The live session has ended.");
    this.name = "SessionEnded";
    this.token = token;
  }
}

/** A live session. `Client.live` opens it. */
export class LiveSession {
  /** The first answer: token, links, models and limits. */
  configured = null;
  /** The last answer. */
  finished = null;
  #socket;
  #sent = 0;
  /** What waits for an answer, by the number of its picture; `begin` and `end` wait for those of the session. */
  #waiting = new Map();
  #onRefused;

  /** Opens a session. `address` begins with `ws:` or `wss:`. */
  static async open(address, protocols, { onRefused, ...options }) {
    const session = new LiveSession();
    session.#onRefused = onRefused;
    const socket = new WebSocket(address, protocols);
    session.#socket = socket;
    socket.addEventListener("message", ({ data }) => session.#take(JSON.parse(data)));
    // Some versions of Node fire no `close` if the connection cannot be opened. Neither event tells a reason.
    for (const event of ["close", "error"])
      socket.addEventListener(event, () => session.#fail(new SessionEnded(session.configured?.token ?? null)));
    socket.addEventListener("open", () => socket.send(JSON.stringify({ type: "configure", ...options })));
    session.configured = await session.#answer("begin");
    return session;
  }

  /** Sends a picture (a Blob with a JPEG, PNG or WebP file). Resolves to its answer, `faces` or `skipped`. */
  async picture(file, timeS = now()) {
    this.#send(1, timeS, file);
    this.#sent += 1;
    return this.#answer(this.#sent);
  }

  /** Sends sound: an Int16Array with 16,000 samples a second. `timeS` is the time of the first one. It has no answer. */
  sound(samples, timeS) {
    const bytes = new DataView(new ArrayBuffer(samples.length * 2));
    samples.forEach((sample, at) => bytes.setInt16(at * 2, sample, true));
    this.#send(2, timeS, bytes);
  }

  /** Ends the session. Resolves to its last answer when the result is stored. */
  finish() {
    if (this.finished) return Promise.resolve(this.finished);
    const answer = this.#answer("end");
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type: "finish" }));
    return answer;
  }

  #send(kind, timeS, content) {
    if (this.#socket.readyState !== WebSocket.OPEN) throw new SessionEnded(this.configured.token);
    const header = new DataView(new ArrayBuffer(9));
    header.setUint8(0, kind);
    header.setFloat64(1, timeS);
    this.#socket.send(new Blob([header, content]));
  }

  #answer(to) {
    return new Promise((resolve, reject) => {
      if (this.#socket.readyState > WebSocket.OPEN) reject(new SessionEnded(this.configured?.token ?? null));
      else this.#waiting.set(to, { resolve, reject });
    });
  }

  #take(answer) {
    const settle = (to, how, value) => {
      this.#waiting.get(to)?.[how](value);
      this.#waiting.delete(to);
    };
    switch (answer.type) {
      case "configured":
        return settle("begin", "resolve", answer);
      case "finished":
        this.finished = answer;
        return settle("end", "resolve", answer);
      case "error": {
        const error = new ProblemError({ status: answer.problem.status, headers: new Headers() }, answer.problem);
        if (answer.picture !== null) return settle(answer.picture, "reject", error);
        if (this.configured !== null) return this.#onRefused?.(error);
        settle("begin", "reject", error);
        return this.#socket.close();
      }
      default:
        return settle(answer.picture, "resolve", answer);
    }
  }

  #fail(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

export class Client {
  #base;
  #key;
  #fetch;
  #retries;

  constructor(base = "", { key, fetch = globalThis.fetch, retries = {} } = {}) {
    this.#base = base.replace(/\/+$/, "");
    this.#key = key;
    // A browser's fetch must be called without an object.
    this.#fetch = (address, init) => fetch(address, init);
    this.#retries = { attempts: 6, firstPauseS: 0.5, longestPauseS: 60, ...retries };
  }

  /** Sends a video (a Blob or File) and waits for its result. */
  async analyze(video, { timeoutS, ...options } = {}) {
    const token = await this.upload(video, options);
    return this.wait(token, { timeoutS, signal: options.signal });
  }

  /** Sends a video and returns the token of its analysis. */
  async upload(video, { name = video.name ?? "video", signal, onProgress, ...options } = {}) {
    if (video.size > FORM_LIMIT) {
      const { notice, notice_version } = options;
      const upload = await this.beginUpload(video.size, { notice, notice_version, signal });
      await this.#sendParts(video, upload, { signal, onProgress });
      return this.start(upload.upload, { name, signal, ...options });
    }
    const form = asForm(options);
    form.append("video", video, name);
    // With this the service recognises a repeated upload.
    const headers = { "idempotency-key": globalThis.crypto.randomUUID() };
    const response = await this.#call("POST", "/analyze-video", { body: form, headers, signal });
    onProgress?.(video.size, video.size);
    return (await response.json()).token;
  }

  /** Has the service fetch a video (`https://...`, or `s3://BUCKET/KEY`), and returns the token of its analysis. */
  async uploadAddress(address, { signal, ...options } = {}) {
    const body = asForm({ video_url: address, ...options });
    const headers = { "idempotency-key": globalThis.crypto.randomUUID() };
    return (await this.#json("POST", "/analyze-video", { body, headers, signal })).token;
  }

  /** Begins an upload in parts. Keep `upload` of the answer to resume it later. */
  async beginUpload(sizeBytes, { signal, ...options } = {}) {
    return this.#json("POST", "/v1/uploads", { json: { size_bytes: sizeBytes, ...options }, signal });
  }

  /** Sends the parts of an upload that the service does not have. */
  async sendParts(video, upload, { signal, onProgress } = {}) {
    const state = await this.#json("GET", `/v1/uploads/${upload}`, { signal });
    await this.#sendParts(video, state, { signal, onProgress });
  }

  async #sendParts(video, upload, { signal, onProgress }) {
    if (video.size !== upload.size_bytes) {
      throw new RangeError(`The video has ${video.size} bytes, but the upload was begun for ${upload.size_bytes}.`);
    }
    let sent = upload.parts.filter((part) => part.done).reduce((sum, part) => sum + part.size_bytes, 0);
    for (const part of upload.parts.filter((part) => !part.done)) {
      const body = video.slice(part.offset, part.offset + part.size_bytes);
      // Without the key: the address may be one of the bucket.
      await this.#call("PUT", part.url, { body, signal, withKey: false });
      sent += part.size_bytes;
      onProgress?.(sent, video.size);
    }
  }

  /** Starts the analysis of an upload and returns its token. Repeated, it returns the same token. */
  async start(upload, { name, signal, ...options } = {}) {
    const json = { upload, file_name: name, ...options };
    return (await this.#json("POST", "/v1/analyses", { json, signal })).token;
  }

  /** Waits for the end of an analysis. Throws `AnalysisFailed`, or a DOMException named TimeoutError. */
  async wait(token, { timeoutS = Infinity, onProgress, signal } = {}) {
    const end = now() + timeoutS;
    for (;;) {
      const asked = now();
      const wait = Math.floor(Math.max(0, Math.min(LONGEST_WAIT_S, end - asked)));
      const result = await this.#json("GET", `/results/${token}`, { query: wait > 0 ? { wait } : {}, signal });
      onProgress?.(result);
      if (result.status === "done") return result;
      if (result.status !== "queued" && result.status !== "running") throw new AnalysisFailed(result);
      if (now() >= end) throw new DOMException(`The analysis ${token} has not ended yet.`, "TimeoutError");
      // A service may be set to answer sooner than it was asked to.
      if (now() - asked < 1) await pause(Math.min(1, Math.max(0, end - now())), signal);
    }
  }

  /** The state of an analysis, and its result if it is done. */
  async result(token, { signal } = {}) {
    return this.#json("GET", `/results/${token}`, { signal });
  }

  /** The rows of the timeline: one for each face in each sample. */
  async *timeline(token, { signal } = {}) {
    let cursor = null;
    do {
      const query = { limit: 5000, ...(cursor && { cursor }) };
      const page = await this.#json("GET", `/results/${token}/timeline`, { query, signal });
      yield* page.rows;
      cursor = page.next;
    } while (cursor !== null);
  }

  /** The timeline as a table (CSV). */
  async timelineCsv(token, { signal } = {}) {
    const call = { headers: { accept: "text/csv" }, signal };
    return (await this.#call("GET", `/results/${token}/timeline`, call)).text();
  }

  /** The report as an HTML page. */
  async report(token, { language, signal } = {}) {
    return (await this.#call("GET", `/results/${token}/report`, { query: { language }, signal })).text();
  }

  /** Makes a link for readers without a key. */
  async share(token, { signal } = {}) {
    return this.#json("POST", `/results/${token}/share`, { signal });
  }

  /** Erases an analysis, its result and its video. Cancels it if it has not ended. */
  async erase(token, { signal } = {}) {
    await this.#call("DELETE", `/results/${token}`, { signal, erases: true });
  }

  /** The analyses of this key, the newest first. */
  async *analyses({ signal, ...filters } = {}) {
    let cursor = null;
    do {
      const query = { ...filters, ...(cursor && { cursor }) };
      const page = await this.#json("GET", "/v1/analyses", { query, signal });
      yield* page.analyses;
      cursor = page.next;
    } while (cursor !== null);
  }

  /**
   * Compares one person in several results with the first of them, and marks differences beyond chance. `groups` has
   * lists of results by name, of which the means are compared. In both, a result is its token, or `[token, person]`.
   */
  async compare(tokens = [], { groups = {}, person, signal } = {}) {
    const named = groups instanceof Map ? [...groups] : Object.entries(groups);
    const query = {
      tokens: tokens.length > 0 ? joined(tokens) : undefined,
      group: named.map(([name, takes]) => `${name}:${joined(takes)}`),
      person,
    };
    return this.#json("GET", "/v1/compare", { query, signal });
  }

  /**
   * Starts the analyses of videos at addresses. An item is an address, or an object with `video_url` and `file_name`.
   * Repeated with the same `idempotencyKey`, it returns the same batch.
   */
  async startBatch(items, { idempotencyKey = globalThis.crypto.randomUUID(), signal, ...options } = {}) {
    const given = items.map((item) => (typeof item === "string" ? { video_url: item } : item));
    // With this the service recognises a repeated request.
    const headers = { "idempotency-key": idempotencyKey };
    return this.#json("POST", "/v1/batches", { json: { items: given, ...options }, headers, signal });
  }

  /** The state of a batch (by its `id`) and of its items. */
  async batch(id, { signal } = {}) {
    return this.#json("GET", `/v1/batches/${id}`, { signal });
  }

  /** Waits for the end of a batch. Throws a DOMException named TimeoutError. A failed item throws nothing. */
  async waitBatch(id, { timeoutS = Infinity, onProgress, signal } = {}) {
    const end = now() + timeoutS;
    for (;;) {
      const response = await this.#call("GET", `/v1/batches/${id}`, { signal });
      const batch = await response.json();
      onProgress?.(batch);
      if (batch.status !== "running") return batch;
      const left = end - now();
      if (left <= 0) throw new DOMException(`The batch ${id} has not ended yet.`, "TimeoutError");
      const asked = Number(response.headers.get("retry-after")) || BATCH_PAUSE_S;
      await pause(Math.min(asked, left), signal);
    }
  }

  /** The batches of this key, the newest first. */
  async *batches({ signal } = {}) {
    let cursor = null;
    do {
      const page = await this.#json("GET", "/v1/batches", { query: { cursor }, signal });
      yield* page.batches;
      cursor = page.next;
    } while (cursor !== null);
  }

  /** Erases the analyses of a batch that have not ended. With `erase`, erases all of them and the batch. */
  async cancelBatch(id, { erase = false, signal } = {}) {
    const query = erase ? { erase: true } : {};
    await this.#call("DELETE", `/v1/batches/${id}`, { query, signal, erases: erase });
  }

  /** Reads the faces of pictures (Blobs or Files: JPEG, PNG, WebP). */
  async pictures(pictures, { signal, ...options } = {}) {
    const form = asForm(options);
    for (const picture of pictures) form.append("picture", picture, picture.name ?? "picture");
    return this.#json("POST", "/v1/pictures", { body: form, signal });
  }

  /**
   * Opens a live session. It needs a global `WebSocket`, which browsers and Node 22 have. `onRefused` gets errors of
   * messages that have no answer, such as sound.
   */
  async live({ signal, ...options } = {}) {
    const protocols = ["visage.live"];
    if (this.#key) {
      const { ticket } = await this.#json("POST", "/v1/live/tickets", { signal });
      protocols.push(`ticket.${ticket}`);
    }
    const address = new URL(`${this.#base}/v1/live`, globalThis.location?.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    return LiveSession.open(address.href, protocols, options);
  }

  /** The text that people get before their faces and voices are analyzed. */
  async notice({ language, signal } = {}) {
    return this.#json("GET", "/v1/notice", { query: { language }, signal });
  }

  async #json(method, path, call) {
    return (await this.#call(method, path, call)).json();
  }

  // Makes a call until it succeeds, is refused, or no attempts are left.
  async #call(method, path, { headers = {}, query = {}, json, body, signal, withKey = true, erases = false }) {
    const given = Object.entries(query)
      .flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map((one) => [name, one]))
      .filter(([, value]) => value !== undefined && value !== null);
    const search = given.length > 0 ? `?${new URLSearchParams(given)}` : "";
    const address = /^https?:/.test(path) ? path : this.#base + path + search;
    const init = { method, signal, redirect: "error", body, headers: { ...headers } };
    if (this.#key && withKey) init.headers["x-api-key"] = this.#key;
    if (json !== undefined) {
      init.headers["content-type"] = "application/json";
      init.body = JSON.stringify(json);
    }
    for (let attempt = 1; ; attempt += 1) {
      let response = null;
      let broken = null;
      try {
        response = await this.#fetch(address, init);
      } catch (error) {
        if (signal?.aborted) throw error;
        broken = error;
      }
      const seconds = this.#pause(attempt, response);
      if (seconds === null) {
        if (broken) throw broken;
        if (response.ok || (erases && attempt > 1 && response.status === 404)) return response;
        throw new ProblemError(response, await problem(response));
      }
      await response?.body?.cancel();
      await pause(seconds, signal);
    }
  }

  // Seconds until the next attempt; null if there is none.
  #pause(attempt, response) {
    const { attempts, firstPauseS, longestPauseS } = this.#retries;
    if (attempt >= attempts) return null;
    if (response) {
      if (!RETRIED.has(response.status)) return null;
      const asked = response.headers.get("retry-after") ?? "";
      // A day's quota is not worth waiting for.
      if (/^\d+$/.test(asked)) return Number(asked) <= longestPauseS ? Number(asked) : null;
    }
    return Math.min(firstPauseS * 2 ** (attempt - 1), longestPauseS) * (0.5 + Math.random() / 2);
  }
}

// Results in a parameter. Each is a token, or `[token, person]`.
function joined(takes) {
  return takes.map((take) => (typeof take === "string" ? take : take.join(":"))).join(",");
}

function now() {
  return performance.now() / 1000;
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(done, seconds * 1000);
    signal?.addEventListener("abort", stopped, { once: true });
    function done() {
      signal?.removeEventListener("abort", stopped);
      resolve();
    }
    function stopped() {
      clearTimeout(timer);
      reject(signal.reason);
    }
  });
}

async function problem(response) {
  try {
    const body = await response.json();
    return body !== null && typeof body === "object" ? body : {};
  } catch {
    return {};
  }
}

// Lists become repeated fields, booleans the words of a form.
function asForm(options) {
  const form = new FormData();
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null) continue;
    for (const one of Array.isArray(value) ? value : [value]) {
      form.append(name, typeof one === "boolean" ? (one ? "on" : "off") : String(one));
    }
  }
  return form;
}
