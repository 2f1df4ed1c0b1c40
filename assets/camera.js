// Records a video with the camera, or shows it live: choose a camera, preview, record, stop.

import { byId, h } from "./dom.js";
import { moment, t } from "./words.js";

// Chromium writes MP4 with avc1 and only the parameter sets of the first picture size. If a phone is rotated, the
// following pictures cannot be decoded. With avc3 and in WebM, each picture size has its own parameter sets.
const KINDS = [
  ["video/mp4;codecs=avc3.42E01E,mp4a.40.2", "mp4"],
  ["video/webm;codecs=vp9,opus", "webm"],
  ["video/webm;codecs=vp8,opus", "webm"],
  ["video/webm", "webm"],
  ["video/mp4;codecs=avc1.42E01E,mp4a.40.2", "mp4"],
  ["video/mp4", "mp4"],
];
const MOST_S = 600;

/** The states in which pictures of the camera are kept or sent. */
const BUSY = ["recording_now", "live_now"];

let stream, recorder, timer, pageTitle;

export const canRecord = () => Boolean(navigator.mediaDevices?.getUserMedia && window.MediaRecorder);

/** Shows on the page and in its title that the camera is on, until it is off. */
function indicate(state) {
  const label = byId("camera-on");
  label.hidden = !state;
  label.classList.toggle("recording", BUSY.includes(state));
  label.firstElementChild.textContent = state ? t(`camera.${state}`) : "";
  if (state) {
    pageTitle ??= document.title;
    document.title = `\u25cf ${t(`camera.${state}`)}`;
  } else if (pageTitle !== undefined) {
    document.title = pageTitle;
    pageTitle = undefined;
  }
}

/** Shows the camera's picture. Throws the browser's error if the camera cannot be used. */
export async function open(deviceId) {
  close();
  const video = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
  const wanted = { ...video, width: { ideal: 1280 }, height: { ideal: 720 } };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: true });
  } catch (error) {
    // Without a microphone, or without permission to use it, record the picture alone.
    if (error.name !== "NotFoundError" && error.name !== "NotAllowedError" && error.name !== "NotReadableError")
      throw error;
    stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  }
  indicate("on");
  byId("camera-live").srcObject = stream;
  const inUse = stream.getVideoTracks()[0]?.getSettings().deviceId;
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
  byId("camera-choice").replaceChildren(
    ...cameras.map((camera, at) =>
      h(
        "option",
        { value: camera.deviceId, selected: camera.deviceId === inUse },
        camera.label || t("camera.numbered", { n: at + 1 }),
      ),
    ),
  );
}

export function close() {
  clearInterval(timer);
  if (recorder && recorder.state !== "inactive") recorder.stop();
  recorder = undefined;
  stream?.getTracks().forEach((track) => track.stop());
  stream = undefined;
  byId("camera-live").srcObject = null;
  indicate();
  byId("camera-time").hidden = true;
}

/** Shows the time since now, and calls `onTick` with it four times a second. */
function clock(onTick) {
  const begun = performance.now();
  const label = byId("camera-time");
  const tick = () => {
    const seconds = (performance.now() - begun) / 1000;
    label.textContent = moment(seconds, 60);
    onTick?.(seconds);
  };
  tick();
  label.hidden = false;
  timer = setInterval(tick, 250);
}

/** The stream of the open camera. */
export const current = () => stream;

/** Shows that the pictures are analyzed live, and for how long. Calls `onGone` if the camera is disconnected. */
export function showLive(onGone) {
  clock();
  indicate("live_now");
  stream.getVideoTracks()[0]?.addEventListener("ended", onGone, { once: true });
}

/** Records until `stop`, and resolves to the file. */
export function record() {
  const [type, ending] = KINDS.find(([kind]) => MediaRecorder.isTypeSupported(kind)) ?? ["", "webm"];
  const chunks = [];
  recorder = new MediaRecorder(stream, { ...(type && { mimeType: type }), videoBitsPerSecond: 2_500_000 });
  clock((seconds) => seconds >= MOST_S && stop());
  const done = new Promise((resolve, reject) => {
    recorder.addEventListener("dataavailable", (event) => event.data.size && chunks.push(event.data));
    recorder.addEventListener("error", (event) => reject(event.error));
    recorder.addEventListener(
      "stop",
      () => resolve(new File(chunks, `recording.${ending}`, { type: type.split(";")[0] || "video/webm" })),
      { once: true },
    );
  });
  recorder.start(1000);
  indicate("recording_now");
  return done;
}

export function stop() {
  clearInterval(timer);
  if (recorder && recorder.state !== "inactive") recorder.stop();
}
