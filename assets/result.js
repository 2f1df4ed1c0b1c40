// Shows the result: headline, figures with their intervals, timeline, people, and downloads.

import { call, json, key } from "./api.js";
import { Timeline } from "./chart.js";
import { byId, h, icon, s, say, save, toast } from "./dom.js";
import { certainty, emotion, figure, language, locale, moment, number, percent, t, text } from "./words.js";

const clamp = (value) => Math.min(100, Math.max(0, value));

/** Draws a scale from 0 to 100 with the interval as a band and the figure as a mark. */
function range(value, interval) {
  const band = interval && s("rect", { class: "band", x: clamp(interval[0]), y: 2, width: Math.max(0.5, clamp(interval[1]) - clamp(interval[0])), height: 8, rx: 1 });
  return s("svg", { class: "range", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "ground", x: 0, y: 2, width: 100, height: 8, rx: 1 }), band, s("rect", { class: "point", x: clamp(value) - 0.6, y: 0, width: 1.2, height: 12, rx: 0.4 }));
}

/** Returns the tile of one figure. `show` formats figure and interval, `spread` maps them to 0 to 100. */
function tile(name, value, { interval, show = (v) => number(v), unit = t("result.of100"), spread = (v) => v, coverage, note, bar = true } = {}) {
  const known = value !== null && value !== undefined;
  const sure = certainty(interval?.map(spread));
  const ends = interval && { low: show(interval[0]), high: show(interval[1]) };
  const notes = [
    // A rough figure already shows its interval instead of its value.
    ends && sure !== "rough" && h("span", { title: t("result.interval_note", ends) }, t("result.interval", ends)),
    coverage !== undefined && coverage !== null && t("result.coverage", { share: percent(coverage * 100) }), note,
  ].filter(Boolean).flatMap((part, at) => (at > 0 ? [". ", part] : [part]));
  return h("div", { class: "card tile" },
    h("h3", {}, t(`tile.${name}`)),
    h("p", { class: `value ${sure}` }, known ? figure(value, interval, show, spread) : "–", h("small", {}, !known ? t("result.unread") : sure === "open" ? "" : unit)),
    known && bar && range(spread(value), interval?.map(spread)),
    known && notes.length > 0 && h("p", { class: "soft small" }, notes),
    text(`what.${name}`) && h("details", {}, h("summary", {}, t("result.what")), h("p", { class: "small" }, t(`what.${name}`))));
}

function figures({ summary }) {
  const intervals = summary.intervals ?? {};
  const of = (name, more) => tile(name, summary[name], { interval: intervals[name], ...more });
  const hundred = { show: (v) => percent(v * 100), unit: "", spread: (v) => v * 100 };
  const signed = { show: (v) => (v > 0 ? "+" : "") + number(v * 100).replace("-", "−"), unit: "", spread: (v) => 50 + v * 50 };
  return [
    of("overall_score"), of("presence"),
    of("eye_contact", { show: (v) => percent(v), unit: "", coverage: summary.eye_contact_coverage }),
    of("calmness"), of("valence", signed), of("model_confidence", hundred),
  ];
}

function heard(speech) {
  const tiles = [tile("ratio", speech.ratio * 100, { show: (v) => percent(v), unit: "" })];
  if (speech.ratio > 0) tiles.push(tile("clarity", speech.clarity));
  if (speech.quality_mos) tiles.push(tile("quality", speech.quality_mos.ovr, { show: (v) => number(v, 1), unit: "/ 5", spread: (v) => (v - 1) * 25 }));
  if (speech.syllables_per_s !== null && speech.syllables_per_s !== undefined) tiles.push(tile("pace", speech.syllables_per_s, { show: (v) => number(v, 1), unit: "", bar: false }));
  const longest = speech.pauses > 0 && t("result.longest", { time: `${number(speech.longest_pause_s, 1)} s` });
  if (speech.ratio > 0) tiles.push(tile("pauses", speech.pauses, { unit: "", bar: false, note: longest }));
  return h("section", { class: "stack", "aria-labelledby": "speech-title" }, h("h2", { id: "speech-title" }, t("result.speech")), h("div", { class: "tiles heard" }, tiles));
}

export function headline({ summary }) {
  if (!summary.dominant_emotion) return t("result.nobody");
  const { kind, ...shown } = summary.story ?? { kind: "mixed", emotion: summary.dominant_emotion };
  const text = t(`result.${kind}`, Object.fromEntries(Object.entries(shown).map(([name, value]) => [name, emotion(value).toLowerCase()])));
  if (kind === "in_turn") return text;
  switch (certainty(summary.intervals?.emotions?.[summary.dominant_emotion])) {
    case "clear": return text;
    case "open": return t("result.first", { text });
    default: return t("result.seems", { text });
  }
}

function lead({ summary, faces, video }) {
  if (!summary.dominant_emotion) return t("result.nobody_lead");
  const values = { n: faces.length, samples: faces.reduce((sum, face) => sum + face.frames, 0), length: moment(video.duration_s, video.duration_s) };
  return t(faces.length === 1 ? "result.one" : "result.many", values);
}

/** Returns the list of the seven shares, the largest first. */
function shares(emotions, intervals) {
  const sorted = Object.entries(emotions).sort((a, b) => b[1] - a[1]);
  return h("dl", { class: "shares", "aria-label": t("result.shares") }, sorted.map(([name, value]) => {
    const band = intervals?.emotions?.[name];
    const whisker = band && s("path", { d: `M${clamp(band[0])},5H${clamp(band[1])}`, class: "whisker" });
    return h("div", { class: `e-${name}` }, h("dt", {}, h("i", { class: "dot" }), emotion(name)),
      s("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, s("rect", { class: "fill", width: clamp(value), height: 10 }), whisker),
      h("dd", {}, percent(value, 1)));
  }));
}

/** Returns the content of the card beside the player. */
export function story(analysis) {
  const face = analysis.faces.slice().sort((a, b) => b.frames - a.frames)[0];
  const runs = face?.segments ?? [];
  return [
    h("h1", { tabindex: -1 }, headline(analysis)),
    h("p", { class: "lead soft" }, lead(analysis)),
    runs.length > 0 && h("div", { class: "ribbon", "aria-hidden": "true" }, runs.map((run) => {
      const share = (run.end_s - run.start_s) / Math.max(analysis.video.duration_s, 0.001);
      return h("span", { class: `e-${run.emotion} ${share < 0.22 ? "thin" : ""}`, style: { flexGrow: Math.max(0.01, share * 100) } }, share >= 0.22 && emotion(run.emotion));
    })),
    analysis.summary.emotions && shares(analysis.summary.emotions, analysis.summary.intervals),
  ];
}

function person(face, duration) {
  const rows = Object.entries(face.emotions).sort((a, b) => b[1] - a[1]);
  const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
  const hundred = (value, interval) => {
    const told = figure(value, interval, (v) => number(v));
    return certainty(interval) === "open" ? told : `${told} ${t("result.of100")}`;
  };
  const known = (value, show) => (value === null || value === undefined ? t("result.unread") : show(value));
  return h("article", { class: "card person", "aria-labelledby": `person-${face.id}` },
    h("h3", { id: `person-${face.id}` }, h("span", { class: "badge", "aria-hidden": "true" }, face.id), t("result.person", { n: face.id })),
    h("dl", { class: "plain" },
      fact(t("result.most"), h("span", { class: `e-${face.dominant_emotion}` }, h("i", { class: "dot" }), emotion(face.dominant_emotion))),
      fact(t("result.seen"), t("result.seen_value", { from: moment(face.first_s, duration), to: moment(face.last_s, duration) })),
      fact(t("result.samples"), number(face.frames)),
      face.presence !== undefined && fact(t("tile.presence"), known(face.presence, (v) => hundred(v, face.intervals?.presence))),
      fact(t("tile.eye_contact"), known(face.eye_contact, (v) => figure(v, face.intervals?.eye_contact, percent))),
      fact(t("tile.calmness"), hundred(face.calmness, face.intervals?.calmness))),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": `person-${face.id}` }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("result.counts")), ["share", "count", "sure"].map((name) => h("th", { scope: "col", class: "n" }, t(`result.${name}`))))),
      h("tbody", {}, rows.map(([name, value]) => h("tr", {},
        h("th", { scope: "row", class: `e-${name}` }, h("i", { class: "dot" }), emotion(name)),
        h("td", { class: "n" }, percent(value, 1)), h("td", { class: "n" }, number(face.emotion_counts[name] ?? 0)),
        h("td", { class: "n" }, face.average_confidence[name] === undefined ? "–" : percent(face.average_confidence[name] * 100))))))),
    h("details", {}, h("summary", {}, t("result.vectors")),
      h("p", { class: "small" }, t("result.vectors_value", { rows: face.embeddings_shape[0], columns: face.embeddings_shape[1] })),
      h("p", { class: "vector" }, `[${face.example_embedding.map((p) => p.toFixed(4)).join(", ")}]`)));
}

function facts({ video }) {
  const fact = (name, value) => [h("dt", {}, t(`facts.${name}`)), h("dd", {}, value)];
  return h("section", { class: "card stack" }, h("h2", {}, t("result.facts")), h("dl", { class: "plain" },
    fact("length", moment(video.duration_s, video.duration_s)), fact("picture", `${video.width} × ${video.height}, ${number(video.fps, 1)}/s`), fact("codec", video.codec),
    fact("sound", t(video.has_audio ? "facts.sound_yes" : "facts.sound_no")), fact("looked", t("facts.looked_value", { n: number(video.frames_analyzed), total: number(video.frames_total) }))));
}

function method(analysis) {
  return h("section", { class: "card stack" }, h("h2", {}, t("result.method")), h("dl", { class: "meanings" },
    ["expressions", "persons", "limits", "not_for"].map((name) => {
      const [term, meaning] = t(`meaning.${name}`).split("|");
      return h("div", {}, h("dt", {}, term), h("dd", {}, meaning));
    })),
  h("details", {}, h("summary", {}, t("result.models")), h("ul", {}, analysis.models.map((model) => h("li", {}, model.name, " ", h("code", {}, `sha256 ${model.sha256}`))))));
}

/** Fetches all rows of a result, page by page. */
export async function rows(token, signal) {
  const faces = new Map();
  let cursor, interval = 0;
  do {
    const query = new URLSearchParams({ limit: 1000, ...(cursor && { cursor }) });
    const page = await json(`/results/${token}/timeline?${query}`, { signal });
    interval = page.interval_s ?? interval;
    for (const row of page.rows) {
      if (!faces.has(row.face)) faces.set(row.face, []);
      faces.get(row.face).push(row);
    }
    cursor = page.next;
  } while (cursor);
  return { faces, interval: interval || 1 };
}

function take(job, onErase) {
  const { token } = job;
  const guarded = (work) => async () => {
    try {
      await work();
    } catch (problem) {
      toast(problem.message);
    }
  };
  const fetched = (path, accept, name) => guarded(async () => save(await (await call(path, { headers: { Accept: accept } })).blob(), name));
  const reportPath = `/results/${token}/report?language=${language}`;
  const report = key()
    ? h("button", { class: "button", type: "button", onclick: fetched(reportPath, "text/html", "report.html") }, icon("down"), t("take.report"))
    : h("a", { class: "button main", href: reportPath, target: "_blank", rel: "noopener" }, icon("file"), t("take.report"));
  const button = (name, picture, onclick, kind = "") => h("button", { class: `button ${kind}`, type: "button", onclick }, icon(picture), t(`take.${name}`));
  const sure = h("dialog", { "aria-labelledby": "erase-sure" }, h("form", { method: "dialog" }, h("h2", { id: "erase-sure" }, t("take.erase_sure")),
    h("div", { class: "row" }, h("button", { class: "button danger", value: "yes" }, t("take.erase_yes")), h("button", { class: "button", value: "" }, t("take.erase_no")))));
  sure.addEventListener("close", guarded(async () => {
    if (sure.returnValue !== "yes") return;
    await call(`/results/${token}`, { method: "DELETE" });
    onErase();
  }));
  return h("section", { class: "card stack actions", "aria-labelledby": "take-title" }, h("h2", { id: "take-title" }, t("result.take")),
    h("div", { class: "row" }, report,
      button("json", "down", fetched(`/results/${token}`, "application/json", "result.json")),
      button("csv", "down", fetched(`/results/${token}/timeline`, "text/csv", "timeline.csv")),
      button("link", "link", guarded(async () => {
        await navigator.clipboard.writeText(`${location.origin}/results/${token}`);
        toast(t("take.link_copied"));
      })),
      button("erase", "bin", () => { sure.returnValue = ""; sure.showModal(); }, "quiet danger")),
    job.expires_at && h("p", { class: "soft small" }, t("take.expires", { date: new Date(job.expires_at).toLocaleDateString(locale, { dateStyle: "long" }) })), sure);
}

/** Shows the result of a job in the page, and passes the boxes to `player`. */
export async function render(job, { player, storyCard, signal, onErase }) {
  const { analysis } = job;
  const { faces, interval } = analysis.faces.length ? await rows(job.token, signal) : { faces: new Map(), interval: 1 };
  for (const face of analysis.faces) face.segments ??= [];
  storyCard.replaceChildren(...story(analysis).filter(Boolean));
  const timeline = analysis.faces.length > 0 && new Timeline({ analysis, faces, interval, onSeek: (time) => player.seek(time) });
  player.onTime = (time) => timeline && timeline.setTime(time);
  player.setRows(faces, interval, analysis.video);
  const { feedback = [], dominant_emotion: isSeen } = analysis.summary;
  byId("more").replaceChildren(...[
    timeline && timeline.element,
    analysis.warnings.length > 0 && h("section", { class: "note" }, h("h2", {}, t("result.warnings")), h("ul", {}, analysis.warnings.map((line) => h("li", {}, line)))),
    isSeen && h("section", { class: "stack", "aria-labelledby": "figures-title" }, h("h2", { id: "figures-title" }, t("result.figures")), h("div", { class: "tiles" }, figures(analysis))),
    feedback.length > 0 && h("section", { class: "card stack" }, h("h2", {}, t("result.advice")), h("ul", { class: "advice" }, feedback.map((line) => h("li", {}, line)))),
    take(job, onErase),
    analysis.faces.length > 0 && h("section", { class: "stack", "aria-labelledby": "people-title" }, h("h2", { id: "people-title" }, t("result.people")), h("div", { class: "people" }, analysis.faces.map((face) => person(face, analysis.video.duration_s)))),
    analysis.speech && heard(analysis.speech),
    h("div", { class: "pair" }, facts(analysis), method(analysis)),
  ].filter(Boolean));
  say(t("result.ready", { headline: headline(analysis) }));
}
