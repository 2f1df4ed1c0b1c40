// Plays the browser's own copy of the video, with a box and a label on every face.

import { call } from "./api.js";
import { h, icon, s, save, toast } from "./dom.js";
import { emotion, percent, t } from "./words.js";

const EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

export function top(row) {
  const name = EMOTIONS.reduce((best, next) => (row.emotions[next] > row.emotions[best] ? next : best));
  return [name, row.emotions[name]];
}

/** Returns the row nearest to a time, or undefined if the face was not seen then. `rows` are sorted by time. */
export function rowAt(rows, time, interval) {
  let low = 0, high = rows.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].time_s < time) low = middle + 1;
    else high = middle;
  }
  const near = [rows[low - 1], rows[low]].filter(Boolean).sort((a, b) => Math.abs(a.time_s - time) - Math.abs(b.time_s - time))[0];
  return near && Math.abs(near.time_s - time) <= interval * 0.9 + 0.05 ? near : undefined;
}

/** Interpolates the box of a face between two samples. */
function boxAt(rows, row, time, interval) {
  const at = rows.indexOf(row);
  const other = row.time_s <= time ? rows[at + 1] : rows[at - 1];
  if (!other || Math.abs(other.time_s - row.time_s) > interval * 1.75) return row.bbox;
  const share = (time - row.time_s) / (other.time_s - row.time_s);
  return Object.fromEntries(["x", "y", "width", "height"].map((side) => [side, row.bbox[side] + share * (other.bbox[side] - row.bbox[side])]));
}

/** Calls `then` if the browser cannot play a file. For large files it fires only "stalled", without an error. */
export function unplayable(video, then) {
  video.addEventListener("error", () => video.getAttribute("src") && then());
  video.addEventListener("stalled", () => video.readyState === 0 && then());
}

export class Player {
  /** Calls `onTime(seconds)` during playback and after seeking, and `onFile(file)` when the person chooses a file. */
  constructor(onTime, onFile) {
    this.onTime = onTime;
    this.video = h("video", { controls: true, playsinline: true, preload: "auto", "aria-label": t("player.label") });
    this.boxes = s("svg", { class: "boxes", "aria-hidden": "true" });
    this.choose = h("input", { type: "file", accept: "video/*,.mkv,.avi", class: "sr", tabindex: -1, "aria-hidden": "true", onchange: (event) => event.target.files[0] && onFile(event.target.files[0]) });
    const again = h("button", { class: "button", type: "button", onclick: () => this.choose.click() }, t("player.choose_again"));
    this.empty = h("div", { class: "empty" }, h("p", {}, t("player.no_file")), again);
    this.screen = h("div", { class: "screen" }, this.video, this.boxes, this.empty);
    this.frameButton = h("button", { class: "button", type: "button", onclick: () => this.saveFrame() }, icon("camera"), t("player.save_frame"));
    this.loopButton = h("button", { class: "button", type: "button", onclick: () => this.saveLoop() }, icon("loop"), t("player.save_loop"));
    this.actions = h("div", { class: "row" }, h("div", { class: "row" }, this.frameButton, this.loopButton), this.choose);
    this.element = h("section", { class: "card player", "aria-label": t("player.title") }, this.screen, this.actions);
    for (const event of ["seeked", "timeupdate", "loadeddata"]) this.video.addEventListener(event, () => this.tick());
    this.video.addEventListener("play", () => this.follow());
    unplayable(this.video, () => this.withoutFile(t("player.cannot_play")));
    this.withoutFile(t("player.no_file"));
  }

  withoutFile(reason) {
    this.hasFile = false;
    this.empty.firstChild.textContent = reason;
    this.empty.hidden = false;
    this.video.hidden = true;
    this.frameButton.disabled = this.loopButton.disabled = true;
  }

  setFile(file) {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(file);
    this.hasFile = true;
    this.empty.hidden = true;
    this.video.hidden = false;
    this.video.src = this.url;
    this.frameButton.disabled = this.loopButton.disabled = false;
  }

  /** Sets the boxes to draw: rows by face, the sampling interval, and the facts of the video. */
  setRows(faces, interval, facts) {
    this.faces = faces;
    this.interval = interval;
    this.facts = facts;
    this.fit();
    this.unit = Math.max(facts.width, facts.height) / 100;
    this.draw(this.video.currentTime || 0);
  }

  /**
   * Maps boxes to the picture. Boxes are in pixels of the first picture; a picture of another size is fitted into it,
   * centred.
   */
  fit() {
    const { width, height } = this.facts;
    const [across, down] = [this.video.videoWidth || width, this.video.videoHeight || height];
    const scale = Math.min(width / across, height / down);
    const [w, h] = [across * scale, down * scale];
    this.boxes.setAttribute("viewBox", `${(width - w) / 2} ${(height - h) / 2} ${w} ${h}`);
  }

  seek(time) {
    if (this.hasFile) this.video.currentTime = time;
    else this.draw(time);
  }

  follow() {
    const step = () => {
      this.tick();
      if (!this.video.paused && !this.video.ended) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  tick() {
    this.draw(this.video.currentTime);
    this.onTime(this.video.currentTime);
  }

  draw(time) {
    if (!this.faces || !this.hasFile) return this.boxes.replaceChildren();
    this.fit();
    const marks = [];
    for (const [id, rows] of this.faces) {
      const row = rowAt(rows, time, this.interval);
      if (!row) continue;
      const [name, share] = top(row);
      const { x, y, width, height } = boxAt(rows, row, time, this.interval);
      const size = this.unit * 2.6;
      const label = `${id} · ${emotion(name)} ${percent(share * 100)}`;
      const long = label.length * size * 0.63 + size;
      const above = y > size * 1.7;
      marks.push(
        s("g", { class: `e-${name}` },
          s("rect", { class: "edge", x, y, width, height, rx: this.unit, fill: "none", "stroke-width": this.unit * 0.45 }),
          s("rect", { class: "fill", x, y: above ? y - size * 1.6 : y, width: long, height: size * 1.5, rx: this.unit * 0.6 }),
          s("text", { x: x + size * 0.5, y: (above ? y - size * 1.6 : y) + size * 1.08, "font-size": size, "font-weight": 700, fill: name === "sad" ? "#fff" : "#10141c" }, label)),
      );
    }
    this.boxes.replaceChildren(...marks);
  }

  picture(width = this.video.videoWidth) {
    const canvas = h("canvas", { width, height: Math.round((width * this.video.videoHeight) / this.video.videoWidth) });
    canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  async saveFrame() {
    if (!this.video.videoWidth) return;
    this.frameButton.disabled = true;
    try {
      const blob = await new Promise((resolve) => this.picture().toBlob(resolve, "image/jpeg", 0.92));
      const form = new FormData();
      form.append("frame", blob, "frame.jpg");
      const { links } = await (await call("/save_frame", { method: "POST", body: form })).json();
      const own = new URL(links.self, location.href);
      toast(t("player.frame_saved"), " ", h("a", { href: own.pathname, target: "_blank", rel: "noreferrer" }, t("player.frame_open")));
      save(blob, `frame-${this.video.currentTime.toFixed(2)}s.jpg`);
    } catch (problem) {
      toast(problem.message);
    } finally {
      this.frameButton.disabled = false;
    }
  }

  /** Saves a silent clip of the next three seconds, played forwards and backwards at ten pictures a second. */
  async saveLoop() {
    const { video } = this;
    if (!video.videoWidth || !window.MediaRecorder) return toast(t("player.loop_impossible"));
    this.loopButton.disabled = true;
    const from = Math.max(0, Math.min(video.currentTime, video.duration - 3)) || 0;
    const before = video.currentTime;
    video.pause();
    toast(t("player.loop_working"));
    try {
      const pictures = [];
      for (let time = from; time < Math.min(from + 3, video.duration); time += 0.1) {
        const there = new Promise((resolve) => video.addEventListener("seeked", resolve, { once: true }));
        video.currentTime = time + 0.001;
        await there;
        pictures.push(this.picture(Math.min(480, video.videoWidth)));
      }
      const canvas = h("canvas", { width: pictures[0].width, height: pictures[0].height });
      const pen = canvas.getContext("2d");
      const type = ["video/mp4;codecs=avc1.42E01E", "video/webm;codecs=vp9", "video/webm"].find((kind) => MediaRecorder.isTypeSupported(kind));
      const recorder = new MediaRecorder(canvas.captureStream(10), { mimeType: type, videoBitsPerSecond: 1_500_000 });
      const chunks = [];
      recorder.addEventListener("dataavailable", (event) => chunks.push(event.data));
      const ended = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
      recorder.start();
      for (const picture of [...pictures, ...pictures.slice(1, -1).reverse()]) {
        pen.drawImage(picture, 0, 0);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      recorder.stop();
      await ended;
      const plain = type.split(";")[0];
      save(new Blob(chunks, { type: plain }), `boomerang.${plain.split("/")[1]}`);
      toast(t("player.loop_saved"));
    } catch {
      toast(t("player.loop_impossible"));
    } finally {
      video.currentTime = before;
      this.loopButton.disabled = false;
    }
  }

  close() {
    this.video.pause();
    if (this.url) URL.revokeObjectURL(this.url);
  }
}
