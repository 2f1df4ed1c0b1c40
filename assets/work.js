// The card that shows the progress of the upload and the analysis.

import { h } from "./dom.js";
import { bytes, count, moment, number, percent, rounded, t } from "./words.js";

const STEPS = ["upload", "wait", "open", "analyze", "finish"];

/** Returns the place of a waiting video in the queue in words, with the estimated time until its analysis starts. */
export function placeInWords(queue) {
  if (!queue) return undefined;
  const place = queue.ahead === 0 ? t("work.next") : count("work.ahead", queue.ahead);
  if (queue.starts_in_s === null) return place;
  const minutes = Math.round(queue.starts_in_s / 60);
  const start =
    queue.starts_in_s < 60
      ? t("work.starts_soon")
      : minutes < 90
        ? count("work.starts_minutes", minutes)
        : count("work.starts_hours", Math.round(minutes / 60));
  return `${place} ${start}`;
}

export class Progress {
  constructor({ uploads, onCancel }) {
    this.steps = STEPS.filter((step) => uploads || step !== "upload");
    this.title = h("h1", { tabindex: -1 });
    this.percent = h("p", { class: "percent", "aria-hidden": "true" });
    this.bar = h("i");
    this.meter = h(
      "div",
      {
        class: "meter",
        role: "progressbar",
        "aria-label": t("work.progress"),
        "aria-valuemin": 0,
        "aria-valuemax": 100,
      },
      this.bar,
    );
    this.note = h("p", { class: "soft" }, "\u00a0");
    this.items = Object.fromEntries(this.steps.map((step) => [step, h("li", {}, t(`step.${step}`))]));
    this.lost = h("p", { class: "note", role: "status", hidden: true }, t("work.lost"));
    this.hint = h("p", { class: "soft small hint" }, uploads ? "\u00a0" : t("work.keep"));
    this.content = [
      this.title,
      h("ol", { class: "steps" }, Object.values(this.items)),
      this.percent,
      this.meter,
      this.note,
      this.lost,
      this.hint,
      h("div", { class: "row" }, h("button", { class: "button", type: "button", onclick: onCancel }, t("work.cancel"))),
    ];
    this.step(this.steps[0]);
    this.fraction(undefined);
  }

  step(name) {
    if (name === this.now) return;
    this.now = name;
    this.begun = performance.now();
    const at = this.steps.indexOf(name);
    this.steps.forEach((step, n) => {
      this.items[step].className = n < at ? "done" : n === at ? "now" : "";
      if (n === at) this.items[step].setAttribute("aria-current", "step");
      else this.items[step].removeAttribute("aria-current");
    });
    this.title.textContent = t(name === "upload" || name === "wait" ? "work.title" : "work.title_analyze");
    this.hint.textContent = name === "upload" ? "\u00a0" : t(name === "wait" ? "work.queued" : "work.keep");
  }

  /** Shows a share from 0 to 1 as bar and number, both rounded to the same whole percentage. */
  fraction(share, note) {
    const whole = share === undefined ? undefined : rounded(share * 100);
    this.meter.classList.toggle("unsure", whole === undefined);
    this.bar.style.transform = whole === undefined ? "" : `scaleX(${whole / 100})`;
    this.percent.textContent = whole === undefined ? "\u00a0" : percent(whole);
    if (whole === undefined) this.meter.removeAttribute("aria-valuenow");
    else this.meter.setAttribute("aria-valuenow", whole);
    this.note.textContent = note ?? "\u00a0";
  }

  /** Shows the progress of the upload; `share` is from 0 to 1. */
  uploaded(share, size) {
    this.step("upload");
    const seconds = (performance.now() - this.begun) / 1000;
    const left = share > 0.02 && seconds > 2 ? (seconds / share) * (1 - share) : undefined;
    const rate = left > 1 ? ` · ${t("work.rate", { time: moment(left, Math.max(left, 60)) })}` : "";
    this.fraction(share, t("work.upload_note", { done: bytes(share * size), total: bytes(size) }) + rate);
  }

  /** Shows the progress of the analysis that the service reports. */
  analyzed({ status, progress, queue }) {
    if (status === "queued") {
      this.step("wait");
      this.fraction(undefined, placeInWords(queue));
    } else if (progress.stage === "fetching") {
      this.step("wait");
      this.fraction(undefined, t("work.fetching"));
    } else if (progress.stage === "opening") {
      this.step("open");
      this.fraction(undefined);
    } else {
      this.step(progress.stage === "finished" ? "finish" : "analyze");
      const values = { done: number(progress.frames_done), total: number(progress.frames_total) };
      this.fraction(
        progress.fraction ?? undefined,
        t(progress.frames_total ? "work.frames" : "work.frames_unknown", values),
      );
    }
  }

  setLost(is) {
    this.lost.hidden = !is;
  }
}
