// Plays the browser's own copy of the video, with a box and a label on every face.

import { call } from "./api.js";
import { drawBoxes } from "./boxes.js";
import { ask, h, icon, s, save, toast } from "./dom.js";
import { boxAt, rowAt, shownEmotion } from "./runs.js";
import { emotion, t } from "./words.js";

/**
 * Calls `then` if the browser cannot show the pictures of a file. It may fire an error, stop without one (large files),
 * or play the sound alone.
 */
export function unplayable(video, then) {
  video.addEventListener("error", () => video.getAttribute("src") && then());
  video.addEventListener("stalled", () => video.readyState === 0 && then());
  video.addEventListener("loadeddata", () => video.videoWidth === 0 && then());
}

/** Gives the screen around a video the shape of its picture, also when that changes. */
export function shape(video) {
  const adapt = () => {
    if (video.videoWidth) video.parentElement.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
  };
  for (const event of ["loadedmetadata", "resize"]) video.addEventListener(event, adapt);
}

export class Player {
  /** Calls `onTime(seconds)` during playback and after seeking, and `onFile(file)` when the person chooses a file. */
  constructor(onTime, onFile) {
    this.onTime = onTime;
    this.video = h("video", { controls: true, playsinline: true, preload: "auto", "aria-label": t("player.label") });
    this.boxes = s("svg", { class: "boxes", "aria-hidden": "true" });
    this.choose = h("input", {
      type: "file",
      accept: "video/*,.mkv,.avi",
      class: "sr",
      tabindex: -1,
      "aria-hidden": "true",
      onchange: (event) => event.target.files[0] && onFile(event.target.files[0]),
    });
    const again = h(
      "button",
      { class: "button", type: "button", onclick: () => this.choose.click() },
      t("player.choose_again"),
    );
    this.empty = h("div", { class: "empty" }, h("p", {}, t("player.no_file")), again);
    this.screen = h("div", { class: "screen" }, this.video, this.boxes, this.empty);
    const button = (name, picture, work, kind = "") =>
      h(
        "button",
        { class: `button ${kind}`, type: "button", "data-action": name, onclick: () => work.call(this) },
        icon(picture),
        t(`player.${name}`),
      );
    this.buttons = [
      button("save_frame", "camera", this.saveFrame),
      button("save_loop", "loop", this.saveLoop),
      button("send_frame", "up", this.sendFrame, "quiet"),
    ];
    this.actions = h("div", { class: "row" }, h("div", { class: "row" }, this.buttons), this.choose);
    this.element = h("section", { class: "card player", "aria-label": t("player.title") }, this.screen, this.actions);
    for (const event of ["seeked", "timeupdate"]) this.video.addEventListener(event, () => this.tick());
    this.video.addEventListener("loadeddata", () => {
      this.start ??= this.video.seeking ? 0 : this.video.currentTime;
      this.openAt();
      this.tick();
    });
    this.video.addEventListener("play", () => this.follow());
    shape(this.video);
    unplayable(this.video, () => this.withoutFile(t("player.cannot_play")));
    new ResizeObserver(() => this.draw(this.time())).observe(this.screen);
    this.withoutFile(t("player.no_file"));
  }

  withoutFile(reason) {
    this.hasFile = false;
    this.empty.firstChild.textContent = reason;
    this.empty.hidden = false;
    this.video.hidden = true;
    this.screen.style.aspectRatio = "";
    this.enable(false);
    this.draw(0);
  }

  /** Says that there is no video to play, because none is kept of a live session. */
  withoutVideo() {
    this.withoutFile(t("player.live"));
    this.empty.lastChild.hidden = this.actions.hidden = true;
  }

  enable(is) {
    for (const button of this.buttons) button.disabled = !is;
  }

  setFile(file) {
    if (this.url) URL.revokeObjectURL(this.url);
    this.file = file;
    this.url = URL.createObjectURL(file);
    this.hasFile = true;
    this.empty.hidden = true;
    this.video.hidden = false;
    this.start = undefined;
    this.video.src = this.url;
    this.enable(true);
    this.onNewFile?.();
  }

  /**
   * Sets the boxes to draw. `faces` are the people of the result, `rows` their rows by id, `people` their names, and
   * `opensAt` the time at which the player opens.
   */
  setResult({ faces, rows, interval, video, people, opensAt }) {
    Object.assign(this, { faces, rows, interval, people, opensAt, facts: video });
    this.openAt();
    this.draw(this.time());
  }

  /**
   * Returns the position in seconds from the start of the video. If the time stamps of a file begin at 10 s,
   * `currentTime` begins at 10 in some browsers and at 0 in others. `start` is its first value.
   */
  time() {
    return Math.max(0, this.video.currentTime - (this.start ?? 0)) || 0;
  }

  /** Goes to the telling moment, unless the person has already played the video. */
  openAt() {
    const { video } = this;
    if (this.opensAt !== undefined && this.hasFile && this.start !== undefined && video.paused && this.time() === 0)
      video.currentTime = this.start + this.opensAt;
  }

  /**
   * Returns the part of the result's picture that a video of this size shows, as {x, y, width, height}. Boxes are in
   * pixels of the first picture; a picture of another size is fitted into it, centred.
   */
  frame({ videoWidth: across, videoHeight: down }) {
    const { width, height } = this.facts;
    const scale = Math.min(width / across, height / down);
    const [w, h] = [across * scale, down * scale];
    return { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h };
  }

  seek(time) {
    if (this.hasFile) this.video.currentTime = time + (this.start ?? 0);
  }

  follow() {
    const step = () => {
      this.tick();
      if (!this.video.paused && !this.video.ended) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  tick() {
    this.draw(this.time());
    this.onTime(this.time());
  }

  draw(time) {
    const { screen, boxes } = this;
    if (!this.faces || !this.hasFile || !this.video.videoWidth || !screen.clientWidth) return boxes.replaceChildren();
    const frame = this.frame(this.video);
    const seen = this.faces.flatMap((face) => {
      const rows = this.rows.get(face.id) ?? [];
      const row = this.people.isHidden(face.id) ? undefined : rowAt(rows, time, this.interval);
      if (!row) return [];
      const name = shownEmotion(face, row, time);
      const label = `${this.people.short(face.id)} · ${emotion(name)}`;
      const box = boxAt(rows, row, time, this.interval);
      return [{ box, label, paint: `e-${name}`, ink: name === "sad" ? "#fff" : "#10141c" }];
    });
    drawBoxes(boxes, screen, frame, seen);
  }

  picture(width = this.video.videoWidth) {
    const canvas = h("canvas", { width, height: Math.round((width * this.video.videoHeight) / this.video.videoWidth) });
    canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  jpeg() {
    return new Promise((resolve) => this.picture().toBlob(resolve, "image/jpeg", 0.92));
  }

  /** Saves the shown frame. It does not leave the browser. */
  async saveFrame() {
    if (!this.video.videoWidth) return;
    save(await this.jpeg(), `frame-${this.time().toFixed(2)}s.jpg`);
    toast(t("player.frame_saved"));
  }

  /** Sends the shown frame to the service, which keeps it for an hour, if the person agrees. */
  async sendFrame() {
    if (!this.video.videoWidth) return;
    this.video.pause();
    if (
      !(await ask({
        title: t("player.send_sure"),
        text: t("player.send_note"),
        yes: t("player.send_yes"),
        no: t("player.send_no"),
      }))
    )
      return;
    try {
      const form = new FormData();
      form.append("frame", await this.jpeg(), "frame.jpg");
      form.append("notice", "given");
      const { links } = await (await call("/save_frame", { method: "POST", body: form })).json();
      const own = new URL(links.self, location.href);
      toast(
        t("player.frame_sent"),
        " ",
        h("a", { href: own.pathname, target: "_blank", rel: "noreferrer" }, t("player.frame_open")),
      );
    } catch (problem) {
      toast(problem.message);
    }
  }

  /** Saves a silent clip of the next three seconds, played forwards and backwards at ten pictures a second. */
  async saveLoop() {
    const { video } = this;
    if (!video.videoWidth || !window.MediaRecorder) return toast(t("player.loop_impossible"));
    this.enable(false);
    const from = Math.max(this.start ?? 0, Math.min(video.currentTime, video.duration - 3)) || 0;
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
      const context = canvas.getContext("2d");
      const type = ["video/mp4;codecs=avc1.42E01E", "video/webm;codecs=vp9", "video/webm"].find((kind) =>
        MediaRecorder.isTypeSupported(kind),
      );
      // A busy browser skips frames of a fixed rate, so each picture is recorded on request where that is possible.
      const onRequest = "requestFrame" in (window.CanvasCaptureMediaStreamTrack?.prototype ?? {});
      const stream = canvas.captureStream(onRequest ? 0 : 10);
      const recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: 1_500_000 });
      const chunks = [];
      recorder.addEventListener("dataavailable", (event) => chunks.push(event.data));
      const ended = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
      recorder.start();
      for (const picture of [...pictures, ...pictures.slice(1, -1).reverse()]) {
        context.drawImage(picture, 0, 0);
        if (onRequest) stream.getVideoTracks()[0].requestFrame();
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
      this.enable(true);
    }
  }

  close() {
    this.video.pause();
    if (this.url) URL.revokeObjectURL(this.url);
  }
}
