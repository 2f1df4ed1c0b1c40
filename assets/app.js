// Controls the start page: sends a file, or opens the token in the address, and shows the result.

import { call, events, json, Problem } from "./api.js";
import { compare } from "./compare.js";
import { byId, h, show, toast } from "./dom.js";
import * as library from "./library.js";
import { Player } from "./player.js";
import { headline, render } from "./result.js";
import { mainFace, samplesPerSecond, shortened } from "./runs.js";
import * as start from "./start.js";
import { upload } from "./upload.js";
import { Progress } from "./work.js";
import { bytes, language, settings, t, text } from "./words.js";

/** Errors of the form's fields. The file is fine. */
const FIELD_ERRORS = ["bad_email", "mail_off", "bad_option", "too_many_recipients"];
/** Errors that the person can correct on the start page. */
const START_ERRORS = [
  "not_a_video",
  "empty_video",
  "upload_too_large",
  "video_too_long",
  "picture_too_large",
  "video_too_costly",
  "notice_outdated",
  ...FIELD_ERRORS,
];
/** Errors of share links. Another try would give the same error. */
const LINK_ERRORS = ["bad_share_link", "share_link_expired"];
const ENDS = ["done", "failed", "cancelled", "expired", "erased"];

const title = document.title;

let running, player;

const pairOf = (hash) => hash.match(/^#compare=([0-9a-f-]{36}),([0-9a-f-]{36})$/i)?.slice(1);
const tokenOf = (path) => path.match(/^\/results\/([0-9a-f-]{36})\/?$/i)?.[1];
/** Returns the address of a result or of the start page. A share link belongs to one result, so it is left out. */
function address(token) {
  const query = new URLSearchParams(location.search);
  query.delete("share");
  return (token ? `/results/${token}` : "/") + (query.size ? `?${query}` : "");
}

/** Cancels the current task and returns the signal of the next one. */
function begin() {
  start.leave();
  running?.abort();
  running = new AbortController();
  player?.close();
  player = undefined;
  return running.signal;
}

function toStart() {
  begin();
  history.pushState(null, "", address());
  document.title = title;
  start.start();
}

/** Shows a problem: `again` tries once more, `file` is the name of the file that it is about. */
function trouble(problem, again, file) {
  const titles = { unknown_token: "trouble.gone_title", expired: "trouble.gone_title" };
  byId("trouble-title").textContent = t(titles[problem.code] ?? "trouble.title");
  byId("trouble-file").textContent = file ?? "";
  byId("trouble-file").hidden = !file;
  byId("trouble-text").textContent = problem.message;
  byId("trouble-request").textContent = problem.requestId ? t("trouble.request", { id: problem.requestId }) : "";
  byId("trouble-request").hidden = !problem.requestId;
  byId("trouble-actions").replaceChildren(
    ...[
      again && h("button", { class: "button main", type: "button", onclick: again }, t("trouble.again")),
      h("button", { class: `button ${again ? "" : "main"}`, type: "button", onclick: toStart }, t("trouble.new")),
    ].filter(Boolean),
  );
  show("trouble");
}

/** Shows the player and the card side by side. They stay there from the upload to the result. */
function stage(progress, file) {
  player = new Player(
    () => {},
    (chosen) => player.setFile(chosen),
  );
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
    const token = await upload(
      file,
      { ...options, language },
      {
        signal,
        onProgress: (share) => progress.uploaded(share, file.size),
        onLost: () => progress.setLost(true),
        onBack: () => progress.setLost(false),
      },
    );
    history.pushState(null, "", address(token));
    library.remember(token, { name: file.name, status: "working" });
    await follow(token, progress, card, signal);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    console.debug(problem);
    if (START_ERRORS.includes(problem.code)) {
      start.start();
      if (FIELD_ERRORS.includes(problem.code)) start.take(file);
      start.complain(
        problem.code === "upload_too_large"
          ? t("error.upload_too_large", { most: bytes(settings.max_upload) })
          : problem.message,
      );
    } else trouble(problem instanceof Problem ? problem : new Problem(500), () => send(file, options), file.name);
  }
}

async function follow(token, progress, card, signal) {
  const cancel = async () => {
    try {
      await call(`/results/${token}`, { method: "DELETE" });
      library.forget(token);
      toStart();
      toast(t("work.cancelled"));
    } catch (problem) {
      toast(problem.message);
    }
  };
  card.querySelector(".row button").onclick = (event) => {
    event.stopImmediatePropagation();
    cancel();
  };
  const path = `/results/${token}?language=${language}`;
  let job = await json(path, { signal });
  if (!ENDS.includes(job.status)) {
    progress.analyzed(job);
    const told = events(`/results/${token}/events`, ENDS, {
      signal,
      onLost: () => progress.setLost(true),
      onBack: () => progress.setLost(false),
    });
    for await (const { event, data } of told) {
      progress.setLost(false);
      if (event === "erased") throw new Problem(404, { code: "unknown_token" });
      progress.analyzed(data);
    }
    job = await json(path, { signal });
  }
  if (job.status === "done") {
    keep(job);
    await render(job, {
      player,
      storyCard: card,
      signal,
      onErase: () => {
        toStart();
        toast(t("take.erased"));
      },
      onNew: toStart,
      // Only with the file can it be sent again, and only once more in finer detail.
      onAgain:
        player.file && !isFine(job)
          ? () => send(player.file, { samples_per_second: samplesPerSecond("fine", job.analysis.video.duration_s) })
          : undefined,
    });
    document.title = `${card.querySelector("h1").textContent} · ${title}`;
    return;
  }
  if (library.resultOf(token)) library.remember(token, { status: "failed" });
  const problem = new Problem(422, job.status === "failed" ? job.error : { code: job.status });
  trouble(problem, undefined, job.file_name);
  if (job.status === "failed") byId("trouble-title").textContent = t("trouble.failed_title");
}

/** Whether a job looked as closely as the page can ask for. */
const isFine = ({ options, analysis }) =>
  (options.samples_per_second ?? 0) >= samplesPerSecond("fine", analysis.video.duration_s);

/** Keeps a finished result in the list of this browser, if it was sent from here. */
function keep({ token, analysis, expires_at: expires }) {
  if (!library.resultOf(token)) return;
  const duration = Math.max(analysis.video.duration_s, 0.001);
  const runs = shortened(mainFace(analysis.faces)?.segments ?? [], duration, 100);
  library.remember(token, { status: "done", headline: headline(analysis), runs, expires });
}

async function showComparison(tokens) {
  const signal = begin();
  try {
    await compare(tokens, signal);
    show("compare");
    document.title = `${byId("compare").querySelector("h1").textContent} · ${title}`;
  } catch (problem) {
    if (problem.name !== "AbortError")
      trouble(problem instanceof Problem ? problem : new Problem(500), () => showComparison(tokens));
  }
}

async function open(token) {
  const signal = begin();
  const progress = new Progress({ uploads: false, onCancel: toStart });
  const card = stage(progress);
  try {
    await follow(token, progress, card, signal);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    const isGone = problem.status === 404 || problem.status === 410;
    if (isGone) library.forget(token);
    const settled = isGone || LINK_ERRORS.includes(problem.code);
    trouble(problem instanceof Problem ? problem : new Problem(500), settled ? undefined : () => open(token));
  }
}

function route() {
  const [token, pair] = [tokenOf(location.pathname), pairOf(location.hash)];
  document.title = title;
  if (pair) showComparison(pair);
  else if (token) open(token);
  else {
    begin();
    start.start();
  }
}

/** Shows the result of a live session, and says why it ended if the person did not end it. */
function showLive(token, reason) {
  if (reason === "erased") {
    library.forget(token);
    toStart();
    toast(t("take.erased"));
    return;
  }
  history.pushState(null, "", address(token));
  open(token);
  const words = text(`live.ended_${reason}`);
  if (words) toast(words);
}

start.prepare(send, {
  onLive: (token, name) => library.remember(token, { name, status: "working" }),
  onLiveEnd: showLive,
});
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
