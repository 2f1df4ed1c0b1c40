// A live session: sends pictures of the camera and the sound of the microphone while they are taken, and passes the
// answers on. The service keeps no picture.

import { askForKey, json, key, pause, Problem } from "./api.js";
import { NOTICE } from "./upload.js";
import { language, settings } from "./words.js";

const PROTOCOL = "visage.live";
const [PICTURE, SOUND] = [1, 2];
const MOST_WIDE = 640;
const QUALITY = 0.8;
const INTERVAL_MS = 1000 / 15;
/** Pictures that may wait for their answer: one that is read, and one that is on its way meanwhile. */
const MOST_WAITING = 2;
const BLOCK_S = 0.1;
/** If the sound is behind by more than this, what is missing is silence. */
const MOST_BEHIND_S = 0.5;
const MOST_START_MS = 1000;
/** Resonances of the four filters that together are a Butterworth filter of order 8, in dB. */
const BUTTERWORTH_DB = [-5.85, -4.42, -0.92, 8.17];

const now = () => performance.now() / 1000;

/** Returns the protocols to offer. With a key, one is a ticket, because a browser cannot send the key itself. */
async function protocols() {
  while (settings.live.needs_key && !key()) if (!(await askForKey())) throw new Problem(401, { code: "key_required" });
  if (!key()) return [PROTOCOL];
  const { ticket } = await json("/v1/live/tickets", { method: "POST" });
  return [PROTOCOL, `ticket.${ticket}`];
}

function message(kind, time, content) {
  const header = new DataView(new ArrayBuffer(9));
  header.setUint8(0, kind);
  header.setFloat64(1, time);
  return new Blob([header, content]);
}

/** Passes the sound of a stream to `onBlock`. Returns a function that ends this, or undefined if it is impossible. */
async function listen(stream, onBlock) {
  if (!window.AudioWorkletNode || stream.getAudioTracks().length === 0) return undefined;
  const context = new AudioContext();
  try {
    await context.audioWorklet.addModule(new URL("microphone.js", import.meta.url));
    // Without a sound device, Firefox never starts the context, and the promise stays open.
    await Promise.race([context.resume(), pause(MOST_START_MS)]);
    if (context.state !== "running") throw new DOMException("the sound does not start", "NotReadableError");
    const filters = BUTTERWORTH_DB.map((Q) => new BiquadFilterNode(context, { type: "lowpass", frequency: 7000, Q }));
    const microphone = new AudioWorkletNode(context, "microphone", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
    });
    [...filters, microphone].reduce((from, to) => from.connect(to), context.createMediaStreamSource(stream));
    microphone.port.onmessage = ({ data }) => onBlock(data);
    return () => context.close();
  } catch (error) {
    console.debug(error);
    context.close();
    return undefined;
  }
}

/**
 * Emits the events `faces` (an answer with faces), `busy` (a picture was skipped), `refused` (with a Problem), `ended`
 * (with the reason) and `lost`.
 */
export class LiveSession extends EventTarget {
  constructor(video, stream) {
    super();
    this.video = video;
    this.stream = stream;
    this.canvas = document.createElement("canvas");
    this.waiting = 0;
  }

  /** Begins the session. Resolves to its token, and throws a Problem if it is refused. */
  async open(options) {
    const offered = await protocols();
    this.silence = await listen(this.stream, (block) => this.hear(block));
    if (this.isClosed) {
      this.stop();
      throw new DOMException("closed", "AbortError");
    }
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/v1/live`, offered);
    this.socket.addEventListener("open", () => {
      const configure = { type: "configure", language, speech: Boolean(this.silence), ...NOTICE, ...options };
      this.socket.send(JSON.stringify(configure));
    });
    return new Promise((resolve, reject) => {
      this.begun = { resolve, reject };
      this.socket.addEventListener("message", ({ data }) => this.take(JSON.parse(data)));
      this.socket.addEventListener("close", () => this.closed());
    });
  }

  take(answer) {
    if (answer.type !== "configured" && answer.picture) this.waiting -= 1;
    switch (answer.type) {
      case "configured":
        this.token = answer.token;
        this.timer = setInterval(() => this.look(), INTERVAL_MS);
        this.begun.resolve(answer.token);
        break;
      case "faces":
        this.emit("faces", answer);
        break;
      case "skipped":
        this.emit("busy");
        break;
      case "error": {
        const problem = new Problem(answer.problem.status, answer.problem);
        if (this.token) this.emit("refused", problem);
        else {
          this.begun.reject(problem);
          this.close();
        }
        break;
      }
      case "finished":
        this.reason = answer.reason;
        break;
    }
  }

  emit(name, detail) {
    if (!this.isClosed) this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Sends a picture, unless two have no answer yet. */
  async look() {
    const { video, canvas, socket } = this;
    if (this.isEncoding || this.isFinishing || this.waiting >= MOST_WAITING || !video.videoWidth) return;
    this.isEncoding = true;
    const scale = Math.min(1, MOST_WIDE / video.videoWidth);
    const [width, height] = [video.videoWidth, video.videoHeight].map((side) => Math.round(side * scale));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.getContext("2d").drawImage(video, 0, 0, width, height);
    const time = now();
    const file = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
    this.isEncoding = false;
    if (!file || this.isFinishing || socket.readyState !== WebSocket.OPEN) return;
    this.waiting += 1;
    this.begunAt ??= time;
    socket.send(message(PICTURE, time, file));
  }

  /** Sends a block of sound. The session begins with its first picture, so earlier sound is left out. */
  hear(block) {
    const arrived = now() - BLOCK_S;
    if (this.begunAt === undefined || this.isFinishing || this.socket.readyState !== WebSocket.OPEN) return;
    this.heardTo ??= Math.max(arrived, this.begunAt);
    if (arrived - this.heardTo > MOST_BEHIND_S) this.heardTo = arrived;
    this.socket.send(message(SOUND, this.heardTo, block));
    this.heardTo += BLOCK_S;
  }

  /** Asks for the result. The session emits `ended` when it is stored. */
  finish() {
    this.isFinishing = true;
    this.stop();
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "finish" }));
  }

  stop() {
    clearInterval(this.timer);
    this.silence?.();
    this.silence = undefined;
  }

  /** Leaves the session without waiting. The service keeps what it has seen as a result. */
  close() {
    this.isClosed = true;
    this.stop();
    this.socket?.close();
  }

  closed() {
    this.stop();
    if (!this.token) this.begun.reject(new Problem(0, { code: "live" }));
    else if (this.reason) this.emit("ended", this.reason);
    else this.emit("lost");
  }
}
