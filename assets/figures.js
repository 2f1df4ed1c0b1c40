// Draws the figures of a result: tiles with their intervals, and the shares of the seven expressions.

import { h, s } from "./dom.js";
import { certainty, emotion, figure, number, percent, t, text } from "./words.js";

const clamp = (value) => Math.min(100, Math.max(0, value));

/** Draws a scale from 0 to 100 with the interval as a band and the figure as a mark. */
function range(value, interval) {
  const band =
    interval &&
    s("rect", {
      class: "band",
      x: clamp(interval[0]),
      y: 2,
      width: Math.max(0.5, clamp(interval[1]) - clamp(interval[0])),
      height: 8,
      rx: 1,
    });
  return s(
    "svg",
    { class: "range", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "ground", x: 0, y: 2, width: 100, height: 8, rx: 1 }),
    band,
    s("rect", { class: "point", x: clamp(value) - 0.6, y: 0, width: 1.2, height: 12, rx: 0.4 }),
  );
}

const signed = (value) => (value > 0 ? "+" : "") + number(value * 100).replace("-", "−");

/** How the figures of a person are shown: `show` formats figure and interval, `spread` maps them to 0 to 100. */
export const KINDS = {
  overall_score: {},
  presence: {},
  eye_contact: { show: (v) => percent(v), unit: "" },
  calmness: {},
  valence: { show: signed, unit: "", spread: (v) => 50 + v * 50 },
  model_confidence: { show: (v) => percent(v * 100), unit: "", spread: (v) => v * 100 },
};

/** Returns the tile of one figure. */
function tile(
  name,
  value,
  { interval, show = (v) => number(v), unit = t("result.of100"), spread = (v) => v, coverage, note, bar = true } = {},
) {
  const known = value !== null && value !== undefined;
  const sure = certainty(interval?.map(spread));
  const ends = interval && { low: show(interval[0]), high: show(interval[1]) };
  const notes = [
    // A rough figure already shows its interval instead of its value.
    ends && sure !== "rough" && h("span", { title: t("result.interval_note", ends) }, t("result.interval", ends)),
    coverage !== undefined && coverage !== null && t("result.coverage", { share: percent(coverage * 100) }),
    note,
  ]
    .filter(Boolean)
    .flatMap((part, at) => (at > 0 ? [". ", part] : [part]));
  return h(
    "div",
    { class: "card tile", "data-figure": name },
    h("h3", {}, t(`tile.${name}`)),
    h(
      "p",
      { class: `value ${sure}` },
      known ? figure(value, interval, { show, spread }) : "–",
      " ",
      h("small", {}, !known ? t("result.unread") : sure === "open" ? "" : unit),
    ),
    known && bar && range(spread(value), interval?.map(spread)),
    known && notes.length > 0 && h("p", { class: "soft small" }, notes),
    text(`what.${name}`) &&
      h("details", {}, h("summary", {}, t("result.what")), h("p", { class: "small" }, t(`what.${name}`))),
  );
}

export function tiles({ summary }) {
  const intervals = summary.intervals ?? {};
  const of = ([name, kind]) =>
    tile(name, summary[name], {
      interval: intervals[name],
      ...kind,
      coverage: name === "eye_contact" ? summary.eye_contact_coverage : undefined,
    });
  return h("div", { class: "tiles" }, Object.entries(KINDS).map(of));
}

/** Returns the section about speech. `notes` say why there are no figures, or how far to trust them. */
export function heard(speech, notes) {
  const shown = [];
  if (speech) {
    shown.push(tile("ratio", speech.ratio * 100, { show: (v) => percent(v), unit: "" }));
    if (speech.ratio > 0) shown.push(tile("clarity", speech.clarity));
    if (speech.quality_mos)
      shown.push(
        tile("quality", speech.quality_mos.ovr, {
          show: (v) => number(v, 1),
          unit: t("result.of5"),
          spread: (v) => (v - 1) * 25,
        }),
      );
    if (speech.syllables_per_s !== null && speech.syllables_per_s !== undefined)
      shown.push(
        tile("pace", speech.syllables_per_s, { show: (v) => number(v, 1), unit: t("result.syllables"), bar: false }),
      );
    const longest = speech.pauses > 0 && t("result.longest", { time: `${number(speech.longest_pause_s, 1)} s` });
    if (speech.ratio > 0) shown.push(tile("pauses", speech.pauses, { unit: "", bar: false, note: longest }));
  }
  return h(
    "section",
    { class: "stack", id: "speech", "aria-labelledby": "speech-title" },
    h("h2", { id: "speech-title" }, t("result.speech")),
    notes.map((note) => h("p", { class: "soft" }, note)),
    shown.length > 0 && h("div", { class: "tiles heard" }, shown),
  );
}

/** Returns the list of the seven shares, the largest first. */
export function shares(emotions, intervals) {
  const sorted = Object.entries(emotions).sort((a, b) => b[1] - a[1]);
  return h(
    "dl",
    { class: "shares", "aria-label": t("result.shares") },
    sorted.map(([name, value]) => {
      const band = intervals?.emotions?.[name];
      const whisker = band && s("path", { d: `M${clamp(band[0])},5H${clamp(band[1])}`, class: "whisker" });
      return h(
        "div",
        { class: `e-${name}` },
        h("dt", {}, h("i", { class: "dot" }), emotion(name)),
        s(
          "svg",
          { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
          s("rect", { class: "fill", width: clamp(value), height: 10 }),
          whisker,
        ),
        h("dd", {}, percent(value, 1)),
      );
    }),
  );
}

/** Says the headline of a person or a video. */
export function phrase(story, interval) {
  const { kind, ...named } = story;
  const told = t(
    `result.${kind}`,
    Object.fromEntries(Object.entries(named).map(([name, value]) => [name, emotion(value).toLowerCase()])),
  );
  // The order of two expressions was seen, so it is certain.
  if (kind === "in_turn") return told;
  switch (certainty(interval)) {
    case "clear":
      return told;
    case "open":
      return t("result.first", { text: told });
    default:
      return t("result.seems", { text: told });
  }
}
