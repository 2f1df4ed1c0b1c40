// Shows a result: headline, timeline, people, figures with their intervals, and what can be done with it.

import { json } from "./api.js";
import { ribbon, Timeline } from "./chart.js";
import { byId, h, say } from "./dom.js";
import { heard, phrase, shares, tiles } from "./figures.js";
import * as library from "./library.js";
import { asShown } from "./orientation.js";
import { badge, personCard, personPhrase } from "./person.js";
import { tellingMoment } from "./runs.js";
import { take } from "./take.js";
import { makeThumbnails } from "./thumbnails.js";
import { count, moment, number, rounded, t } from "./words.js";

/** Warnings that only say why there are no figures of speech. They stand there, not among the warnings. */
const ABOUT_SPEECH = ["no_sound", "no_speech", "little_speech", "speech_left_out", "speech_disabled"];
/** What the tips for a video without faces say already. */
const ABOUT_FACES = ["no_face", "small_faces", "small_faces_rarely_sought"];

const CODECS = {
  h264: "H.264",
  hevc: "H.265 (HEVC)",
  av1: "AV1",
  mpeg4: "MPEG-4",
  mpeg2video: "MPEG-2",
  mpeg1video: "MPEG-1",
  mjpeg: "Motion JPEG",
  prores: "ProRes",
};

/** Returns the headline of a result. Of several people it says only how many there are; each has a line of its own. */
export function headline({ summary, faces }) {
  if (!summary.dominant_emotion) return t("result.nobody");
  if (faces.length > 1) return count("result.people", faces.length);
  return phrase(
    summary.story ?? { kind: "mixed", emotion: summary.dominant_emotion },
    summary.intervals?.emotions?.[summary.dominant_emotion],
  );
}

function lead({ summary, faces, video }) {
  if (!summary.dominant_emotion) return t("result.nobody_lead");
  const length = moment(video.duration_s, video.duration_s);
  return [faces.length === 1 && count("result.people", 1), length, count("result.of_samples", video.frames_analyzed)]
    .filter(Boolean)
    .join(" · ");
}

/** Returns the content of the card beside the player. */
function story(analysis, { token, fileName, people, pictures }) {
  const { summary, faces, video } = analysis;
  const duration = Math.max(video.duration_s, 0.001);
  // The service may keep no names. Then this browser knows the name of a file that it sent.
  const file = fileName ?? library.resultOf(token)?.name;
  const shown = faces.filter((face) => !people.isHidden(face.id));
  const one =
    faces.length === 1
      ? [faces[0].segments.length > 0 && ribbon(faces[0], duration)]
      : [
          h(
            "ul",
            { class: "lines" },
            shown.map((face) =>
              h(
                "li",
                { "data-line": face.id },
                badge(face, pictures),
                h("p", {}, h("b", {}, people.name(face.id)), " ", h("span", {}, personPhrase(face))),
                ribbon(face, duration),
              ),
            ),
          ),
        ];
  const average = summary.emotions && shares(summary.emotions, summary.intervals);
  return [
    h("h1", { tabindex: -1 }, headline(analysis)),
    h("p", { class: "lead soft" }, file && [h("span", { class: "name" }, file), h("br")], lead(analysis)),
    ...(faces.length > 0 ? one : []),
    faces.length > 1 ? h("details", { id: "average" }, h("summary", {}, t("result.average")), average) : average,
  ].filter(Boolean);
}

/** What helps if no face was found, and the ways to try again. */
function tips(analysis, { onAgain, onNew }) {
  const sizes = analysis.warning_codes.findIndex(({ code }) => code.startsWith("small_faces"));
  return h(
    "section",
    { class: "card stack", id: "tips", "aria-labelledby": "tips-title" },
    h("h2", { id: "tips-title" }, t("tips.title")),
    h(
      "ul",
      { class: "advice" },
      ["size", "light", "hidden", "brief"].map((name) => h("li", {}, t(`tips.${name}`))),
      sizes >= 0 && h("li", {}, analysis.warnings[sizes]),
    ),
    h(
      "div",
      { class: "row" },
      onAgain &&
        h(
          "button",
          { class: "button main", type: "button", "data-action": "again", onclick: onAgain },
          t("tips.again"),
        ),
      h("button", { class: `button ${onAgain ? "" : "main"}`, type: "button", onclick: onNew }, t("trouble.new")),
    ),
  );
}

/** Returns how many of two decimals a figure needs. */
const decimals = (value) => [0, 1].find((digits) => rounded(value, digits) === rounded(value, 2)) ?? 2;

function facts({ video }) {
  const fact = (name, value) => [h("dt", {}, t(`facts.${name}`)), h("dd", {}, value)];
  return h(
    "section",
    { class: "card stack" },
    h("h2", {}, t("result.facts")),
    h(
      "dl",
      { class: "plain" },
      fact("length", moment(video.duration_s, video.duration_s)),
      fact(
        "picture",
        t("facts.picture_value", {
          width: video.width,
          height: video.height,
          fps: number(video.fps, decimals(video.fps)),
        }),
      ),
      fact("codec", CODECS[video.codec] ?? video.codec.toUpperCase()),
      fact("sound", t(video.has_audio ? "facts.sound_yes" : "facts.sound_no")),
      fact("looked", t("facts.looked_value", { n: number(video.frames_analyzed), total: number(video.frames_total) })),
    ),
  );
}

function method(analysis) {
  return h(
    "section",
    { class: "card stack" },
    h("h2", {}, t("result.method")),
    h(
      "dl",
      { class: "meanings" },
      ["expressions", "persons", "limits", "not_for"].map((name) => {
        const [term, meaning] = t(`meaning.${name}`).split("|");
        return h("div", {}, h("dt", {}, term), h("dd", {}, meaning));
      }),
    ),
    h(
      "details",
      {},
      h("summary", {}, t("result.models")),
      h(
        "ul",
        {},
        analysis.models.map((model) => h("li", {}, model.name, " ", h("code", {}, `sha256 ${model.sha256}`))),
      ),
    ),
  );
}

/** Whether a result is that of a live session of a page, which sends JPEG files. No video has this codec. */
const isLive = ({ video }) => video.codec === "jpeg";

/** Fetches all rows of a result, page by page. */
async function fetchRows(token, signal) {
  const rows = new Map();
  let cursor,
    interval = 0;
  do {
    const query = new URLSearchParams({ limit: 1000, ...(cursor && { cursor }) });
    const page = await json(`/results/${token}/timeline?${query}`, { signal });
    interval = page.interval_s ?? interval;
    for (const row of page.rows) {
      if (!rows.has(row.face)) rows.set(row.face, []);
      rows.get(row.face).push(row);
    }
    cursor = page.next;
  } while (cursor);
  return { rows, interval: interval || 1 };
}

/** Returns the sections below player and story. */
function sections(job, view) {
  const { analysis } = job;
  const { people, pictures, timeline, onChange } = view;
  const { feedback = [], dominant_emotion: isSeen } = analysis.summary;
  const shown = analysis.faces.filter((face) => !people.isHidden(face.id));
  const hidden = analysis.faces.length - shown.length;
  const codes = analysis.warning_codes ?? [];
  const of = (list) => analysis.warnings.filter((_, at) => list.includes(codes[at]?.code));
  const quiet = [...of(ABOUT_SPEECH), ...(isSeen ? [] : of(ABOUT_FACES))];
  const warnings = analysis.warnings.filter((line) => !quiet.includes(line));
  const figures = isSeen && tiles(analysis);
  const title = h("h2", { id: "figures-title" }, t("result.figures"));
  return [
    !isSeen && tips(analysis, view),
    timeline?.element,
    warnings.length > 0 &&
      h(
        "section",
        { class: "note" },
        h("h2", {}, t("result.warnings")),
        h(
          "ul",
          {},
          warnings.map((line) => h("li", {}, line)),
        ),
      ),
    figures &&
      (analysis.faces.length === 1
        ? h("section", { class: "stack", "aria-labelledby": "figures-title" }, title, figures)
        : h(
            "section",
            { class: "stack", "aria-labelledby": "figures-title" },
            title,
            h("details", { id: "averages" }, h("summary", {}, t("result.average")), figures),
          )),
    feedback.length > 0 &&
      h(
        "section",
        { class: "card stack" },
        h("h2", {}, t("result.advice")),
        h(
          "ul",
          { class: "advice" },
          feedback.map((line) => h("li", {}, line)),
        ),
      ),
    take(job, view.onErase),
    analysis.faces.length > 0 &&
      h(
        "section",
        { class: "stack", "aria-labelledby": "people-title" },
        h(
          "div",
          { class: "row head" },
          h("h2", { id: "people-title" }, t("result.people_title")),
          hidden > 0 &&
            h(
              "button",
              {
                class: "button quiet small",
                type: "button",
                id: "show-hidden",
                onclick: () => {
                  for (const face of analysis.faces) people.hide(face.id, false);
                  onChange();
                },
              },
              count("people.show", hidden),
            ),
        ),
        h("p", { class: "soft small people-note" }, t("people.note")),
        h(
          "div",
          { class: "people" },
          shown.map((face) =>
            personCard(face, analysis.video.duration_s, {
              people,
              pictures,
              canHide: analysis.faces.length > 1,
              onChange,
            }),
          ),
        ),
      ),
    (analysis.speech || of(ABOUT_SPEECH).length > 0) && heard(analysis.speech, of(ABOUT_SPEECH)),
    h("div", { class: "pair" }, facts(analysis), method(analysis)),
  ].filter(Boolean);
}

/** Shows the result of a job in the page, and passes the boxes to `player`. */
export async function render(job, { player, storyCard, signal, ...actions }) {
  const { analysis, token } = job;
  const fetched = analysis.faces.length ? await fetchRows(token, signal) : { rows: new Map(), interval: 1 };
  const { interval } = fetched;
  const { video, rows } = asShown(analysis.video, fetched.rows);
  for (const face of analysis.faces) face.segments ??= [];
  analysis.warning_codes ??= [];
  const people = new library.People(token, (id) => t("result.person", { n: id }));
  const pictures = new Map();
  const opensAt = tellingMoment(analysis.faces, (id) => rows.get(id) ?? []);
  const view = { token, fileName: job.file_name, people, pictures, ...actions };

  /** Draws everything again after a change, and focuses the element with this id. */
  const draw = (focus) => {
    const time = view.timeline?.time ?? opensAt ?? 0;
    const shown = analysis.faces.filter((face) => !people.isHidden(face.id));
    view.timeline =
      shown.length > 0
        ? new Timeline({ analysis, shown, rows, interval, people, onSeek: (to) => player.seek(to) })
        : undefined;
    const open = [...document.querySelectorAll("#analysis details[open][id]")].map((details) => details.id);
    storyCard.replaceChildren(...story(analysis, view));
    byId("more").replaceChildren(...sections(job, view));
    for (const id of open) if (byId(id)) byId(id).open = true;
    view.timeline?.setTime(time);
    player.draw(player.time());
    if (focus) byId(focus)?.focus({ preventScroll: true });
  };
  view.onChange = draw;
  player.onTime = (time) => view.timeline?.setTime(time);
  player.setResult({ faces: analysis.faces, rows, interval, video, people, opensAt });
  if (isLive(analysis)) player.withoutVideo();
  draw();

  player.onNewFile = () => {
    if (!player.url || analysis.faces.length === 0) return;
    const onPicture = (id, address) => {
      pictures.set(id, address);
      for (const place of document.querySelectorAll(`[data-line="${id}"] .badge, [data-person="${id}"] .badge`))
        place.replaceWith(badge({ id }, pictures));
    };
    makeThumbnails({
      url: player.url,
      faces: analysis.faces,
      rows,
      frameOf: (own) => player.frame(own),
      signal,
      onPicture,
    }).catch(() => {
      /* a video that cannot be played has no pictures */
    });
  };
  player.onNewFile();
  say(t("result.ready", { headline: headline(analysis) }));
}
