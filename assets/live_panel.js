// The part of the start page for live sessions: begins one with the open camera, shows it, and ends it.

import * as camera from "./camera.js";
import { byId, say } from "./dom.js";
import { LiveSession } from "./live.js";
import { LiveView } from "./live_view.js";
import { locale, t } from "./words.js";

/** How long a message about the pictures stays after its last cause. */
const NOTE_MS = 3000;

let session, view, noteTimer, onBegun, onEnd, onProblem;

/** Shows the elements of a stage: `ready` to begin, `live`, or `lost` after the connection broke. */
function stage(name) {
  for (const id of ["go", "field", "hint"]) byId(`camera-${id}`).hidden = name !== "ready";
  if (byId("live-mail")) byId("live-mail").hidden = name !== "ready";
  byId("camera-back").hidden = name === "live";
  byId("camera-screen").hidden = name === "lost";
  byId("camera-stop").hidden = name !== "live";
  byId("camera-stop").disabled = false;
  byId("live-lost").hidden = name !== "lost";
  byId("live-note").hidden = true;
}

function note(message, most = NOTE_MS) {
  const box = byId("live-note");
  if (box.textContent !== message) box.textContent = message;
  box.hidden = false;
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => {
    box.hidden = true;
  }, most);
}

/** Forgets the session and switches the camera off. */
function end() {
  view?.close();
  camera.close();
  clearTimeout(noteTimer);
  byId("camera-back").hidden = false;
  session = view = undefined;
}

function lose(token) {
  end();
  stage("lost");
  byId("live-result").onclick = () => onEnd(token);
  byId("live-result").focus({ preventScroll: true });
}

/** Begins a session with the camera that is open. */
export async function begin() {
  const mail = byId("live-email");
  if (session || (mail && !mail.reportValidity())) return;
  byId("camera-go").disabled = true;
  const name = t("live.name", { date: new Date().toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" }) });
  const mine = new LiveSession(byId("camera-live"), camera.current());
  session = mine;
  let token;
  try {
    token = await mine.open({ name, ...(mail?.value.trim() && { email: mail.value.trim() }) });
  } catch (problem) {
    if (session !== mine) return;
    session = undefined;
    byId("camera-go").disabled = false;
    onProblem(problem);
    return;
  }
  camera.showLive(() => finish());
  onBegun(token, name);
  stage("live");
  byId("camera-stop").focus({ preventScroll: true });
  say(t("camera.live_now"));
  view = new LiveView();
  mine.addEventListener("faces", ({ detail }) => view.take(detail));
  mine.addEventListener("busy", () => note(t("live.busy")));
  mine.addEventListener("refused", ({ detail }) => note(detail.message));
  mine.addEventListener("lost", () => (mine.isFinishing ? leaveFor(token, "finish") : lose(token)));
  mine.addEventListener("ended", ({ detail }) => leaveFor(token, detail));
}

function leaveFor(token, reason) {
  end();
  onEnd(token, reason);
}

/** Ends the session. Its result is shown as soon as it is stored. */
export function finish() {
  if (!session || session.isFinishing) return;
  byId("camera-stop").disabled = true;
  session.finish();
  note(t("live.finishing"), 60_000);
}

/** Leaves a session without waiting for its result. */
export function leave() {
  session?.close();
  end();
  byId("live-lost").hidden = byId("live-note").hidden = true;
}

/**
 * Registers what is called when a session has begun (with its token and name), when it has ended (with its token and
 * the reason), and when it could not begin.
 */
export function prepare(events) {
  ({ onBegun, onEnd, onProblem } = events);
}
