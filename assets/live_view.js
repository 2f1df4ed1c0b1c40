// Shows a live session as it happens: a box on each person, and for each the smoothed emotion, the eye contact and a
// ribbon of the last minute.

import { drawBoxes } from "./boxes.js";
import { ribbon } from "./chart.js";
import { byId, h, say } from "./dom.js";
import { History } from "./live_history.js";
import { emotion, t } from "./words.js";

/** Length of the ribbons. */
const SPAN_S = 60;
const MOST_PEOPLE = 4;
const REDRAWN_MS = 250;
const SAID_MS = 5000;
/** Number of colours for people in the stylesheet. */
const COLOURS = 6;

const colour = (id) => `p-${(id - 1) % COLOURS}`;

/** Says in words whether a person looks at the camera. */
const contactInWords = (met) => t(met === undefined ? "live.contact_unread" : met ? "live.contact" : "live.away");

export class LiveView {
  constructor() {
    this.boxes = byId("live-boxes");
    this.lines = byId("live-people");
    this.history = new History(SPAN_S);
    [this.drawnAt, this.saidAt, this.said] = [0, performance.now(), ""];
    this.boxes.replaceChildren();
    this.lines.replaceChildren(h("li", { class: "soft" }, t("live.waiting")));
    this.lines.hidden = false;
  }

  /** Shows an answer of the service. */
  take({ time_s: time, width, height, faces }) {
    this.history.push(time, faces);
    const frame = { x: 0, y: 0, width, height };
    drawBoxes(
      this.boxes,
      this.boxes.parentElement,
      frame,
      faces.map(({ id, bbox, state }) => ({
        // The camera's picture is shown as in a mirror.
        box: { ...bbox, x: width - bbox.x - bbox.width },
        label: `${id} · ${emotion(state.emotion)}`,
        paint: colour(id),
        ink: "#10141c",
      })),
    );
    const now = performance.now();
    if (now - this.drawnAt < REDRAWN_MS) return;
    this.drawnAt = now;
    this.drawLines(now);
  }

  drawLines(now) {
    const shown = this.history.people().slice(0, MOST_PEOPLE);
    const told = shown.map(({ id, isSeen, runs, contact }) => {
      const name = t("result.person", { n: id });
      const state = isSeen ? emotion(runs.at(-1).emotion) : t("result.unseen");
      return { id, isSeen, name, state, contact, segments: this.history.placed(runs) };
    });
    this.lines.replaceChildren(
      ...(told.length > 0 ? told.map((person) => this.line(person)) : [h("li", { class: "soft" }, t("live.nobody"))]),
    );
    const words = told.map(({ name, state, isSeen, contact }) =>
      [name, state, isSeen && contactInWords(contact)].filter(Boolean).join(", "),
    );
    this.tell(words.join(". ") || t("live.nobody"), now);
  }

  line({ id, isSeen, name, state, contact, segments }) {
    const mark = { true: "met", false: "missed" }[contact] ?? "unread";
    return h(
      "li",
      { "data-live": id },
      h("i", { class: `dot ${colour(id)}` }),
      h(
        "span",
        { class: "who" },
        h("b", {}, name),
        h("span", { class: "state" }, state),
        isSeen && h("span", { class: `contact ${mark}` }, contactInWords(contact)),
      ),
      ribbon({ segments }, SPAN_S),
    );
  }

  /** Tells a screen reader what has changed, at most every five seconds. */
  tell(words, now) {
    if (words === this.said || now - this.saidAt < SAID_MS) return;
    [this.said, this.saidAt] = [words, now];
    say(words);
  }

  close() {
    this.boxes.replaceChildren();
    this.lines.replaceChildren();
    this.lines.hidden = true;
  }
}
