// The cards of the people in a result: figures, and the buttons that rename or hide a person in this browser.

import { h } from "./dom.js";
import { KINDS, phrase } from "./figures.js";
import { certainty, count, emotion, figure, moment, number, percent, t } from "./words.js";

/** The headline of one person. Results of older versions have none. */
export function personPhrase(face) {
  const story = face.story ?? {
    kind: (face.emotions[face.dominant_emotion] ?? 0) >= 50 ? "mostly" : "mixed",
    emotion: face.dominant_emotion,
  };
  return phrase(story, face.intervals?.emotions?.[face.dominant_emotion]);
}

/** Returns the picture of a person, or the number if there is none. */
export function badge(face, pictures) {
  const picture = pictures.get(face.id);
  return picture
    ? h("img", { class: "badge", src: picture, alt: "", width: 40, height: 40 })
    : h("span", { class: "badge", "aria-hidden": "true" }, face.id);
}

/** The line with the name of a person, which a button turns into a field. */
function nameLine(face, { people, pictures, canHide, onChange }) {
  const line = h("div", { class: "who" });
  const edit = () => {
    const field = h("input", {
      type: "text",
      maxlength: 40,
      value: people.own.names[face.id] ?? "",
      placeholder: people.title(face.id),
      "aria-label": t("people.name"),
    });
    const form = h(
      "form",
      {
        class: "row",
        onsubmit: (event) => {
          event.preventDefault();
          people.rename(face.id, field.value);
          onChange(`rename-${face.id}`);
        },
      },
      field,
      h("button", { class: "button main", type: "submit" }, t("people.ok")),
      h(
        "button",
        { class: "button quiet", type: "button", onclick: () => onChange(`rename-${face.id}`) },
        t("people.cancel"),
      ),
    );
    line.replaceChildren(badge(face, pictures), form);
    field.focus();
  };
  line.append(
    badge(face, pictures),
    h("h3", { id: `person-${face.id}` }, people.name(face.id)),
    h(
      "div",
      { class: "row tools" },
      h(
        "button",
        {
          class: "button quiet small",
          type: "button",
          id: `rename-${face.id}`,
          "aria-label": t("people.rename_of", { name: people.name(face.id) }),
          onclick: edit,
        },
        t("people.rename"),
      ),
      canHide &&
        h(
          "button",
          {
            class: "button quiet small",
            type: "button",
            "aria-label": t("people.hide_of", { name: people.name(face.id) }),
            onclick: () => {
              people.hide(face.id, true);
              onChange("show-hidden");
            },
          },
          t("people.hide"),
        ),
    ),
  );
  return line;
}

/** Maximum number of rises that a card lists. */
const MOST_RISES = 5;

/** The longest spans in which an expression was clearly above the usual level of this person. */
function rises({ kind, rises: all }, duration) {
  if (kind === "too_brief") return t("result.rises_brief");
  if (all.length === 0) return t("result.rises_none");
  const length = (rise) => rise.end_s - rise.start_s;
  const least = all.map(length).sort((a, b) => b - a)[MOST_RISES - 1] ?? 0;
  const listed = all.filter((rise) => length(rise) >= least).slice(0, MOST_RISES);
  return h(
    "ul",
    { class: "rises" },
    listed.map((rise) =>
      h(
        "li",
        { class: `e-${rise.emotion}` },
        h("i", { class: "dot" }),
        t("result.rise", {
          emotion: emotion(rise.emotion),
          from: moment(rise.start_s, duration),
          to: moment(rise.end_s, duration),
        }),
      ),
    ),
    all.length > listed.length && h("li", { class: "soft" }, count("result.rises_more", all.length - listed.length)),
  );
}

export function personCard(face, duration, own) {
  const rows = Object.entries(face.emotions).sort((a, b) => b[1] - a[1]);
  const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
  const hundred = (value, interval) => {
    const told = figure(value, interval);
    return certainty(interval) === "open" ? told : `${told} ${t("result.of100")}`;
  };
  const known = (value, show) => (value === null || value === undefined ? t("result.unread") : show(value));
  return h(
    "article",
    { class: "card person", "data-person": face.id, "aria-label": own.people.name(face.id) },
    nameLine(face, own),
    h(
      "dl",
      { class: "plain" },
      fact(
        t("result.most"),
        h("span", { class: `e-${face.dominant_emotion}` }, h("i", { class: "dot" }), emotion(face.dominant_emotion)),
      ),
      fact(
        t("result.seen"),
        t("result.seen_value", { from: moment(face.first_s, duration), to: moment(face.last_s, duration) }),
      ),
      fact(t("result.samples"), number(face.frames)),
      face.relative && fact(t("result.rises"), rises(face.relative, duration)),
      face.presence !== undefined &&
        fact(
          t("tile.presence"),
          known(face.presence, (v) => hundred(v, face.intervals?.presence)),
        ),
      fact(
        t("tile.eye_contact"),
        known(face.eye_contact, (v) => figure(v, face.intervals?.eye_contact, KINDS.eye_contact)),
      ),
      fact(t("tile.calmness"), hundred(face.calmness, face.intervals?.calmness)),
    ),
    h(
      "div",
      {
        class: "scroll",
        tabindex: 0,
        role: "region",
        "aria-label": t("result.table_of", { name: own.people.name(face.id) }),
      },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, t("result.counts")),
            ["share", "count", "sure"].map((name) => h("th", { scope: "col", class: "n" }, t(`result.${name}`))),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map(([name, value]) =>
            h(
              "tr",
              {},
              h("th", { scope: "row", class: `e-${name}` }, h("i", { class: "dot" }), emotion(name)),
              h("td", { class: "n" }, percent(value, 1)),
              h("td", { class: "n" }, number(face.emotion_counts[name] ?? 0)),
              h(
                "td",
                { class: "n" },
                face.average_confidence[name] === undefined ? "–" : percent(face.average_confidence[name] * 100),
              ),
            ),
          ),
        ),
      ),
    ),
    h(
      "details",
      {},
      h("summary", {}, t("result.vectors")),
      h(
        "p",
        { class: "small" },
        count("result.vectors_value", face.embeddings_shape[0], { columns: face.embeddings_shape[1] }),
      ),
      h("p", { class: "vector" }, `[${face.example_embedding.map((p) => p.toFixed(4)).join(", ")}]`),
    ),
  );
}
