// The start view: choose, drop or record a video, preview it, send it.

import * as camera from "./camera.js";
import { byId, say, show, toast } from "./dom.js";
import { shape, unplayable } from "./player.js";
import { addresses, estimatedDuration, samplesPerSecond } from "./runs.js";
import { shelf } from "./shelf.js";
import { bytes, count, moment, settings, t } from "./words.js";

let file, url, onSend, onLive, onLiveEnd;
/** Whether the person has agreed to be recorded. */
let agreed = false;
/** What the camera is for: "record" or "live". */
let purpose = "record";
/** The scripts of live sessions, which are fetched when someone wants one. */
let live;

const canGoLive = () => settings.live.on && Boolean(navigator.mediaDevices?.getUserMedia && window.WebSocket);

/** Returns the scripts of live sessions. */
async function fetchLive() {
  const scripts = await import("./live_panel.js");
  if (!live) scripts.prepare({ onBegun: onLive, onEnd: onLiveEnd, onProblem: (problem) => complain(problem.message) });
  live = scripts;
  return live;
}

/** Returns the reason why a file cannot be sent, or undefined if it can. */
function refusal(candidate) {
  if (candidate.size === 0) return t("error.empty_video");
  if (candidate.size > settings.max_upload) return t("error.upload_too_large", { most: bytes(settings.max_upload) });
  const looks = candidate.type.startsWith("video/") || /\.(mp4|m4v|mov|mkv|webm|avi)$/i.test(candidate.name);
  return looks ? undefined : t("error.not_a_video");
}

export function complain(message) {
  const box = byId("start-error");
  box.querySelector("p").textContent = message;
  box.hidden = false;
  say(message);
}

/** Switches the camera off, and leaves a live session. */
export function leave() {
  live?.leave();
  camera.close();
}

export function start() {
  leave();
  agreed = false;
  if (url) URL.revokeObjectURL(url);
  file = url = undefined;
  byId("start-error").hidden = true;
  byId("preview-video").removeAttribute("src");
  byId("file").value = "";
  panel("choose");
  shelf();
  show("start", false);
}

function panel(name) {
  for (const part of document.querySelectorAll("[data-panel]")) part.hidden = part.dataset.panel !== name;
  byId("start").dataset.shows = name;
}

export function take(candidate) {
  const reason = refusal(candidate);
  if (reason) {
    panel("choose");
    complain(reason);
    return;
  }
  byId("start-error").hidden = true;
  if (url) URL.revokeObjectURL(url);
  file = candidate;
  url = URL.createObjectURL(file);
  const video = byId("preview-video");
  byId("preview-blind").hidden = true;
  video.hidden = false;
  video.parentElement.style.aspectRatio = "";
  video.src = url;
  byId("preview-name").textContent = file.name;
  byId("preview-facts").textContent = bytes(file.size);
  tellDetail();
  panel("preview");
  window.scrollTo(0, 0);
  byId("preview-title").focus({ preventScroll: true });
}

/** Returns the samples a second of the chosen level of detail. Undefined: the service decides. */
function chosenRate() {
  const { duration } = byId("preview-video");
  const level = new FormData(byId("send-form")).get("detail");
  return samplesPerSecond(level, Number.isFinite(duration) ? duration : estimatedDuration(file.size));
}

/** Says how many samples the chosen level of detail gives. */
function tellDetail() {
  const { duration } = byId("preview-video");
  const rate = chosenRate();
  const samples = Number.isFinite(duration) && Math.ceil(duration * rate);
  byId("detail-note").textContent = !rate
    ? t("preview.every", { n: settings.sample_every })
    : samples
      ? count("preview.samples", samples)
      : count("preview.rate", rate);
}

/** Returns the options of the form, as the service takes them. */
function options(form) {
  const fields = new FormData(form);
  const [mails, faces] = [addresses(fields.get("email") ?? ""), fields.get("max_faces")];
  const rate = chosenRate();
  return {
    ...(mails.length > 0 && { email: mails }),
    ...(rate && { samples_per_second: rate }),
    ...(faces && { max_faces: Number(faces) }),
  };
}

/** Opens the camera to record a video or for a live session, but only after the person has agreed. */
function askToUseCamera(wanted) {
  purpose = wanted;
  // Fetched while the person reads. If this fails, it is tried again when the session begins.
  if (purpose === "live") fetchLive().catch(() => {});
  if (agreed) {
    openCamera();
    return;
  }
  panel("notice");
  byId("notice-title").focus();
}

async function openCamera(deviceId) {
  panel("camera");
  window.scrollTo(0, 0);
  byId("start-error").hidden = true;
  for (const part of document.querySelectorAll("[data-purpose]")) part.hidden = part.dataset.purpose !== purpose;
  const works = (is) => {
    for (const part of ["error", "retry"]) byId(`camera-${part}`).hidden = is;
    for (const part of ["screen", "hint", "go", "field"]) byId(`camera-${part}`).hidden = !is;
  };
  works(true);
  byId("camera-stop").hidden = true;
  byId("camera-go").disabled = true;
  try {
    await camera.open(deviceId);
    byId("camera-go").disabled = false;
    byId("camera-go").focus({ preventScroll: true });
  } catch (error) {
    works(false);
    const box = byId("camera-error");
    box.textContent = t(
      error.name === "NotAllowedError"
        ? "camera.denied"
        : error.name === "NotFoundError"
          ? "camera.none"
          : "camera.broken",
    );
    say(box.textContent);
    byId("camera-retry").focus({ preventScroll: true });
  }
}

/**
 * Registers the event handlers. `send(file, options)` is called to analyze a file, and `onLive` and `onLiveEnd` when a
 * live session has begun and ended.
 */
export function prepare(send, events) {
  onSend = send;
  ({ onLive, onLiveEnd } = events);
  const drop = byId("drop");
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", (event) => event.target.files[0] && take(event.target.files[0]));
  // A file can be dropped anywhere in the window.
  let depth = 0;
  const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  window.addEventListener("dragenter", (event) => {
    if (carriesFile(event)) {
      depth += 1;
      drop.classList.add("over");
    }
  });
  window.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (depth === 0) drop.classList.remove("over");
  });
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    drop.classList.remove("over");
    if (!byId("start").hidden && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });

  for (const [id, can] of [
    ["record", camera.canRecord()],
    ["live", canGoLive()],
  ]) {
    byId(id).hidden = !can;
    byId(id).addEventListener("click", () => askToUseCamera(id));
  }
  byId("notice-yes").addEventListener("click", () => {
    agreed = true;
    openCamera();
  });
  byId("notice-no").addEventListener("click", () => {
    panel("choose");
    say(t("camera.declined"));
    byId(purpose).focus();
  });
  byId("camera-choice").addEventListener("change", (event) => openCamera(event.target.value));
  byId("camera-retry").addEventListener("click", () => openCamera());
  byId("camera-back").addEventListener("click", () => {
    leave();
    panel("choose");
    byId(purpose).focus();
  });
  byId("camera-go").addEventListener("click", async () => {
    byId("start-error").hidden = true;
    if (purpose === "live") {
      fetchLive().then(
        (scripts) => scripts.begin(),
        () => complain(t("error.connection")),
      );
      return;
    }
    byId("camera-go").hidden = true;
    byId("camera-stop").hidden = false;
    byId("camera-stop").focus({ preventScroll: true });
    say(t("camera.recording"));
    try {
      const recording = await camera.record();
      camera.close();
      byId("again").hidden = false;
      take(recording);
    } catch {
      camera.close();
      toast(t("camera.broken"));
      panel("choose");
    }
  });
  byId("camera-stop").addEventListener("click", () => (purpose === "live" ? live.finish() : camera.stop()));

  shape(byId("camera-live"));
  const video = byId("preview-video");
  shape(video);
  video.addEventListener("loadedmetadata", () => {
    const facts = [bytes(file.size)];
    if (Number.isFinite(video.duration)) facts.push(moment(video.duration, video.duration));
    if (video.videoWidth) facts.push(`${video.videoWidth} × ${video.videoHeight}`);
    byId("preview-facts").textContent = facts.join(" · ");
    tellDetail();
    if (Number.isFinite(video.duration) && video.duration > settings.max_duration_s)
      complain(t("error.video_too_long", { detail: "" }));
  });
  // The service accepts formats that the browser may not be able to play (AVI, MKV, HEVC).
  unplayable(video, () => {
    video.hidden = true;
    byId("preview-blind").hidden = false;
  });
  byId("other").addEventListener("click", () => {
    start();
    byId("choose").focus();
  });
  byId("again").addEventListener("click", () => {
    byId("again").hidden = true;
    purpose = "record";
    openCamera();
  });
  byId("send-form").addEventListener("change", tellDetail);
  byId("send-form").addEventListener("submit", (event) => {
    event.preventDefault();
    onSend(file, options(event.target));
  });
}
