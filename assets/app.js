// Controls the start page: sends a file, or opens the token in the address, and shows the result.

import { call, events, json, Problem } from "./api.js";
import { byId, h, show, toast } from "./dom.js";
import { Player } from "./player.js";
import { render } from "./result.js";
import * as start from "./start.js";
import { upload } from "./upload.js";
import { Progress } from "./work.js";
import { bytes, language, settings, t } from "./words.js";

const ENDS = ["done", "failed", "cancelled", "expired", "erased"];

let running, player;

const tokenOf = (path) => path.match(/^\/results\/([0-9a-f-]{36})\/?$/i)?.[1];
const address = (token) => (token ? `/results/${token}` : "/") + location.search;

/** Cancels the current task and returns the signal of the next one. */
function begin() {
  running?.abort();
  running = new AbortController();
  player?.close();
  player = undefined;
  return running.signal;
}

function toStart() {
  begin();
  history.pushState(null, "", address());
  start.start();
}

function trouble(problem, again) {
  const titles = { unknown_token: "trouble.gone_title", expired: "trouble.gone_title" };
  byId("trouble-title").textContent = t(titles[problem.code] ?? "trouble.title");
  byId("trouble-text").textContent = problem.message;
  byId("trouble-request").textContent = problem.requestId ? t("trouble.request", { id: problem.requestId }) : "";
  byId("trouble-request").hidden = !problem.requestId;
  byId("trouble-actions").replaceChildren(
    ...[again && h("button", { class: "button main", type: "button", onclick: again }, t("trouble.again")),
      h("button", { class: `button ${again ? "" : "main"}`, type: "button", onclick: toStart }, t("trouble.new"))].filter(Boolean));
  show("trouble");
}

/** Shows the player and the card side by side. They stay there from the upload to the result. */
function stage(progress, file) {
  player = new Player(() => {}, (chosen) => player.setFile(chosen));
  if (file) player.setFile(file);
  const card = h("section", { class: "card story" }, progress.content);
  byId("stage").replaceChildren(player.element, card);
  byId("more").replaceChildren();
  show("analysis");
  return card;
}

async function send(file, options) {
  const signal = begin();
  const progress = new Progress({ uploads: true, onCancel: toStart });
  const card = stage(progress, file);
  try {
    const token = await upload(file, { ...options, language }, {
      signal, onProgress: (share) => progress.uploaded(share, file.size), onLost: () => progress.setLost(true), onBack: () => progress.setLost(false),
    });
    history.pushState(null, "", address(token));
    await follow(token, progress, card, signal);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    console.debug(problem);
    const correctable = ["not_a_video", "empty_video", "upload_too_large", "video_too_long", "picture_too_large", "video_too_costly", "bad_email", "mail_off", "bad_option"];
    if (correctable.includes(problem.code)) {
      start.start();
      if (problem.code === "bad_email" || problem.code === "bad_option") start.take(file);
      start.complain(problem.code === "upload_too_large" ? t("error.upload_too_large", { most: bytes(settings.max_upload) }) : problem.message);
    } else trouble(problem instanceof Problem ? problem : new Problem(500), () => send(file, options));
  }
}

async function follow(token, progress, card, signal) {
  const cancel = async () => {
    try {
      await call(`/results/${token}`, { method: "DELETE" });
      toStart();
      toast(t("work.cancelled"));
    } catch (problem) {
      toast(problem.message);
    }
  };
  card.querySelector(".row button").onclick = (event) => { event.stopImmediatePropagation(); cancel(); };
  const path = `/results/${token}?language=${language}`;
  let job = await json(path, { signal });
  if (!ENDS.includes(job.status)) {
    progress.analyzed(job);
    const told = events(`/results/${token}/events`, ENDS, { signal, onLost: () => progress.setLost(true), onBack: () => progress.setLost(false) });
    for await (const { event, data } of told) {
      progress.setLost(false);
      if (event === "erased") throw new Problem(404, { code: "unknown_token" });
      progress.analyzed(data);
    }
    job = await json(path, { signal });
  }
  if (job.status === "done") {
    await render(job, { player, storyCard: card, signal, onErase: () => { toStart(); toast(t("take.erased")); } });
    const heading = card.querySelector("h1");
    document.title = `${heading.textContent} · ${document.title.split(" · ").at(-1)}`;
    return;
  }
  const problem = new Problem(422, job.status === "failed" ? job.error : { code: job.status });
  trouble(problem);
  if (job.status === "failed") byId("trouble-title").textContent = t("trouble.failed_title");
}

async function open(token) {
  const signal = begin();
  const progress = new Progress({ uploads: false, onCancel: toStart });
  const card = stage(progress);
  try {
    await follow(token, progress, card, signal);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    const settled = problem.status === 404 || problem.status === 410;
    trouble(problem instanceof Problem ? problem : new Problem(500), settled ? undefined : () => open(token));
  }
}

function route() {
  const token = tokenOf(location.pathname);
  if (token) open(token);
  else {
    begin();
    start.start();
  }
}

start.prepare(send);
for (const id of ["home", "new"]) {
  byId(id).addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    toStart();
  });
}
window.addEventListener("popstate", route);
window.addEventListener("pageshow", (event) => event.persisted && route());
route();
performance.mark("usable");
