// Makes a small picture of each person from the browser's own copy of the video. Nothing is sent or stored.

import { h } from "./dom.js";
import { bestRow } from "./runs.js";

const SIZE = 96;
/** A face with its surroundings, in widths of its box. */
const REACH = 1.5;

const happens = (video, event, signal) =>
  new Promise((resolve, reject) => {
    video.addEventListener(event, resolve, { once: true });
    video.addEventListener("error", () => reject(new Error("the video cannot be played")), { once: true });
    signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")), { once: true });
  });

/** Calls `onPicture(id, address)` for each person. `frameOf(video)` is the part of the result's picture it shows. */
export async function makeThumbnails({ url, faces, rows, frameOf, signal, onPicture }) {
  const video = h("video", { muted: true, preload: "auto", playsinline: true });
  try {
    const loaded = happens(video, "loadeddata", signal);
    video.src = url;
    await loaded;
    const frame = frameOf(video);
    const start = video.currentTime; // The time stamps of some files begin above 0.
    for (const face of faces) {
      const row = bestRow(rows.get(face.id) ?? []);
      if (!row || !video.videoWidth) continue;
      const there = happens(video, "seeked", signal);
      video.currentTime = start + row.time_s + 0.001;
      await there;
      const scale = video.videoWidth / frame.width;
      const { x, y, width, height } = row.bbox;
      const side = Math.min(Math.max(width, height) * REACH * scale, video.videoWidth, video.videoHeight);
      const at = (middle, start, most) => Math.max(0, Math.min((middle - start) * scale - side / 2, most - side));
      const canvas = h("canvas", { width: SIZE, height: SIZE });
      const [left, top] = [
        at(x + width / 2, frame.x, video.videoWidth),
        at(y + height / 2, frame.y, video.videoHeight),
      ];
      canvas.getContext("2d").drawImage(video, left, top, side, side, 0, 0, SIZE, SIZE);
      onPicture(face.id, canvas.toDataURL("image/jpeg", 0.85));
    }
  } finally {
    video.removeAttribute("src");
    video.load();
  }
}
