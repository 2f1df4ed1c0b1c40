// Compares two results side by side: the figures with their intervals, and whether they differ beyond them.

import { json } from "./api.js";
import { ribbon } from "./chart.js";
import { byId, h } from "./dom.js";
import { KINDS } from "./figures.js";
import * as library from "./library.js";
import { personPhrase } from "./person.js";
import { compareFigures, EMOTIONS, mainFace } from "./runs.js";
import { emotion, language, moment, number, percent, t } from "./words.js";

const FIGURES = ["presence", "eye_contact", "calmness", "valence", "model_confidence"];

/** A figure with its interval in words, such as "62 (57 to 66)". */
function told({ value, interval }, show) {
  if (value === undefined || value === null) return t("result.unread");
  return interval
    ? t("compare.value", { value: show(value), low: show(interval[0]), high: show(interval[1]) })
    : show(value);
}

/** Figures whose definition depends on the version of the result. */
const DEFINED = ["presence", "calmness"];

/** Returns the table of two people. `isSame`: both results use the same definitions of the figures. */
function table(faces, isSame) {
  const rows = [
    ...FIGURES.map((name) => [
      t(`tile.${name}`),
      KINDS[name].show ?? ((v) => number(v)),
      (face) => ({ value: face[name], interval: face.intervals?.[name] }),
      isSame || !DEFINED.includes(name),
    ]),
    ...EMOTIONS.map((name) => [
      emotion(name),
      (v) => percent(v, 1),
      (face) => ({ value: face.emotions[name], interval: face.intervals?.emotions?.[name] }),
    ]),
  ];
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": t("compare.table") },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["figure", "first", "second", "verdict"].map((name) => h("th", { scope: "col" }, t(`compare.${name}`))),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map(([name, show, of, isComparable = true]) => {
          const [first, second] = faces.map(of);
          const verdict = isComparable ? compareFigures(first, second) : "unknown";
          return h(
            "tr",
            { "data-verdict": verdict },
            h("th", { scope: "row" }, name),
            h("td", {}, told(first, show)),
            h("td", {}, told(second, show)),
            h("td", {}, t(`compare.is_${verdict}`)),
          );
        }),
      ),
    ),
  );
}

/** One side: the file, the person to compare, the headline and the ribbon. */
function side({ token, name, analysis, people }, at, chosen, onChoose) {
  const entry = library.resultOf(token);
  const { faces, video } = analysis;
  const face = faces[chosen];
  const choice =
    faces.length > 1 &&
    h(
      "label",
      { class: "field" },
      t("compare.person"),
      h(
        "select",
        { "data-side": at, onchange: (event) => onChoose(Number(event.target.value)) },
        faces.map((other, n) => h("option", { value: n, selected: n === chosen }, people.name(other.id))),
      ),
    );
  return h(
    "section",
    { class: "card stack" },
    h("h2", {}, `${t(at === 0 ? "compare.first" : "compare.second")}: ${name || entry?.name || t("library.unnamed")}`),
    h("p", { class: "soft" }, moment(video.duration_s, video.duration_s)),
    choice,
    face
      ? [h("p", {}, h("b", {}, personPhrase(face))), ribbon(face, Math.max(video.duration_s, 0.001))]
      : h("p", {}, t("result.nobody")),
    h("a", { href: `/results/${token}` }, t("library.open")),
  );
}

/** Shows the comparison of two results. Throws the Problem of a result that cannot be read. */
export async function compare(tokens, signal) {
  const sides = await Promise.all(
    tokens.map(async (token) => {
      const job = await json(`/results/${token}?language=${language}`, { signal });
      const people = new library.People(token, (id) => t("result.person", { n: id }));
      for (const face of job.analysis?.faces ?? []) face.segments ??= [];
      return { token, name: job.file_name, analysis: job.analysis ?? { faces: [], video: { duration_s: 0 } }, people };
    }),
  );
  const chosen = sides.map(({ analysis }) => Math.max(0, analysis.faces.indexOf(mainFace(analysis.faces))));
  const isSame = sides[0].analysis.metrics_version === sides[1].analysis.metrics_version;
  const draw = (focus) => {
    const faces = sides.map(({ analysis }, at) => analysis.faces[chosen[at]]);
    byId("compare").replaceChildren(
      ...[
        h("h1", {}, t("compare.title")),
        h("p", { class: "lead soft" }, t("compare.lead")),
        h(
          "div",
          { class: "pair even" },
          sides.map((one, at) =>
            side(one, at, chosen[at], (n) => {
              chosen[at] = n;
              draw(at);
            }),
          ),
        ),
        faces.every(Boolean) &&
          h(
            "section",
            { class: "card stack" },
            table(faces, isSame),
            h("p", { class: "soft small" }, t("compare.note")),
          ),
      ].filter(Boolean),
    );
    if (focus !== undefined) document.querySelector(`[data-side="${focus}"]`)?.focus();
  };
  draw();
}
