// Draws expressions, valence, arousal, gaze and speech over the time of the video: one block per person, with a
// common cursor.

import { h, s } from "./dom.js";
import { rowAt, shownEmotion } from "./runs.js";
import { emotion, moment, number, percent, t } from "./words.js";

// From bottom to top: pleasant emotions first, then unpleasant ones, as in the report.
const STACK = ["happy", "surprise", "neutral", "fear", "sad", "disgust", "angry"];
const GAP = 1.75;
const MOST_PEOPLE = 8;

/** Combines rows to at most `most` points, and splits them into spans where the face was absent. */
function spansOf(rows, interval, most) {
  const step = Math.max(1, Math.ceil(rows.length / most));
  const found = [];
  for (let at = 0; at < rows.length; at += step) {
    const group = rows.slice(at, at + step);
    const mean = (of) => group.reduce((sum, row) => sum + of(row), 0) / group.length;
    const read = group.filter((row) => row.eye_contact !== undefined && row.eye_contact !== null);
    const point = {
      time: mean((row) => row.time_s),
      from: group[0].time_s - interval / 2,
      to: group[group.length - 1].time_s + interval / 2,
      shares: STACK.map((name) => mean((row) => row.emotions[name])),
      valence: mean((row) => row.valence),
      arousal: mean((row) => row.arousal),
      gaze: read.length ? read.filter((row) => row.eye_contact).length / read.length : undefined,
    };
    const last = found.at(-1)?.at(-1);
    if (last && point.from + interval / 2 - (last.to - interval / 2) <= interval * GAP) {
      last.to = point.from = (last.to + point.from) / 2;
      found.at(-1).push(point);
    } else found.push([point]);
  }
  return found;
}

function ticks(duration, most) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  const step = steps.find((step) => duration / step <= most) ?? Math.ceil(duration / most / 3600) * 3600;
  return Array.from({ length: Math.floor(duration / step + 1e-9) + 1 }, (_, n) => n * step);
}

/** Returns the place of a run in a strip that is as long as the video. */
const place = (run, duration) => ({
  left: `${(run.start_s / duration) * 100}%`,
  width: `${((run.end_s - run.start_s) / duration) * 100}%`,
});

/** Draws the runs of a person at their times. While the person was not seen, the strip is empty. */
export function ribbon(face, duration) {
  return h(
    "div",
    { class: "ribbon", "aria-hidden": "true" },
    face.segments.map((run) =>
      h("span", { class: `e-${run.emotion}`, style: place(run, duration) }, emotion(run.emotion)),
    ),
  );
}

/** Moves the focus along the buttons of a toolbar, of which only one can be reached with Tab. */
function rove(event) {
  const { target, key } = event;
  const next = { ArrowLeft: target.previousElementSibling, ArrowRight: target.nextElementSibling }[key];
  if (next?.tagName !== "BUTTON") return;
  event.preventDefault();
  [target.tabIndex, next.tabIndex] = [-1, 0];
  next.focus();
}

/** Returns a strip with a labelled button for every run of one emotion. */
function strip(face, duration, name, onJump) {
  return h(
    "div",
    { class: "segments", role: "toolbar", "aria-label": name, onkeydown: rove },
    face.segments.map((run, at) => {
      const [from, to] = [moment(run.start_s, duration), moment(run.end_s, duration)];
      return h(
        "button",
        {
          type: "button",
          class: `e-${run.emotion}`,
          tabindex: at === 0 ? 0 : -1,
          title: `${emotion(run.emotion)}, ${from} – ${to}`,
          "aria-label": t("result.jump", { emotion: emotion(run.emotion), from, to }),
          style: place(run, duration),
          onclick: () => onJump(run.start_s + 0.01),
        },
        emotion(run.emotion),
      );
    }),
  );
}

export class Timeline {
  /** `shown` are the people to draw, `rows` their rows by id, and `people` their names. */
  constructor({ analysis, shown, rows, interval, people, onSeek }) {
    this.analysis = analysis;
    this.people = people;
    this.duration = Math.max(analysis.video.duration_s, 0.001);
    this.interval = interval;
    this.onSeek = onSeek;
    this.rows = rows;
    this.time = 0;
    this.plots = [];
    this.readout = h("div", { class: "readout", "aria-hidden": "true" });
    const legend = h(
      "ul",
      { class: "legend" },
      STACK.map((name) => h("li", {}, h("i", { class: `dot e-${name}` }), emotion(name))),
    );
    const drawn = shown
      .slice()
      .sort((a, b) => b.frames - a.frames)
      .slice(0, MOST_PEOPLE)
      .sort((a, b) => a.id - b.id);
    this.element = h(
      "section",
      { class: "card lanes", "aria-labelledby": "timeline-title" },
      h(
        "div",
        { class: "head" },
        h("h2", { id: "timeline-title" }, t("result.timeline")),
        h("p", { class: "soft small" }, t("result.timeline_note")),
      ),
      legend,
      drawn.map((face, at) => this.person(face, at === 0)),
      this.readout,
    );
    new ResizeObserver(() => this.redraw()).observe(this.element);
    this.setTime(0);
  }

  person(face, isFirst) {
    const story = face.segments
      .map(
        (run) => `${moment(run.start_s, this.duration)} – ${moment(run.end_s, this.duration)} ${emotion(run.emotion)}`,
      )
      .join(", ");
    const svg = s("svg", { role: "img", "aria-label": t("result.chart", { name: this.people.name(face.id), story }) });
    const slider = h("div", {
      class: "slider",
      ...(isFirst
        ? {
            role: "slider",
            tabindex: 0,
            "aria-label": t("result.cursor"),
            "aria-valuemin": 0,
            "aria-valuemax": this.duration.toFixed(2),
          }
        : {}),
      onkeydown: isFirst ? (event) => this.key(event) : undefined,
      onpointermove: (event) => event.pointerType === "mouse" && this.point(event, event.buttons === 1),
      onpointerdown: (event) => this.point(event, true),
    });
    if (isFirst) this.slider = slider;
    const segments = strip(face, this.duration, this.people.name(face.id), (time) => this.go(time));
    const mark = h("i", { class: "mark" });
    segments.append(mark);
    this.plots.push({ face, svg, slider, segments, mark });
    return h(
      "div",
      { class: "person-lane" },
      h("h3", {}, this.people.name(face.id)),
      h("div", { class: "guttered" }, segments),
      h("div", { class: "plot guttered" }, svg, slider),
    );
  }

  go(time) {
    this.setTime(time);
    this.onSeek(time);
  }

  point(event, moves) {
    const area = event.currentTarget.getBoundingClientRect();
    const time = Math.min(1, Math.max(0, (event.clientX - area.left) / area.width)) * this.duration;
    if (moves) this.go(time);
    else this.setTime(time);
  }

  key(event) {
    const step = event.shiftKey ? this.duration / 20 : Math.max(this.interval, this.duration / 200);
    const target = {
      ArrowLeft: this.time - step,
      ArrowRight: this.time + step,
      ArrowDown: this.time - step,
      ArrowUp: this.time + step,
      Home: 0,
      End: this.duration,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    this.go(Math.min(this.duration, Math.max(0, target)));
  }

  setTime(time) {
    this.time = time;
    const share = Math.min(1, Math.max(0, time / this.duration));
    for (const plot of this.plots) {
      plot.line?.setAttribute("transform", `translate(${share * plot.width} 0)`);
      plot.mark.style.left = `${share * 100}%`;
    }
    const told = this.plots.map(({ face }) => {
      const row = rowAt(this.rows.get(face.id) ?? [], time, this.interval);
      const who = this.people.name(face.id);
      if (!row) return { name: undefined, text: `${who}: ${t("result.unseen")}` };
      const name = shownEmotion(face, row, time);
      const gaze =
        row.eye_contact === undefined || row.eye_contact === null
          ? ""
          : ` · ${t("result.gaze")}: ${t(row.eye_contact ? "result.yes" : "result.no")}`;
      return { name, text: `${who}: ${emotion(name)} ${percent(row.emotions[name] * 100)}${gaze}` };
    });
    const now = moment(time, this.duration);
    this.readout.replaceChildren(
      h("strong", {}, now),
      ...told.map(({ name, text }) => h("span", {}, name && h("i", { class: `dot e-${name}` }), text)),
    );
    this.slider?.setAttribute("aria-valuenow", time.toFixed(2));
    this.slider?.setAttribute("aria-valuetext", `${now}. ${told.map(({ text }) => text).join(". ")}`);
  }

  redraw() {
    for (const plot of this.plots) {
      const width = plot.slider.clientWidth;
      if (width > 0 && width !== plot.width) this.draw(plot, width);
    }
    this.setTime(this.time);
  }

  draw(plot, width) {
    const inside = width < 560;
    const x = (time) => (Math.min(this.duration, Math.max(0, time)) / this.duration) * width;
    const found = spansOf(this.rows.get(plot.face.id) ?? [], this.interval, width / 3);
    const parts = [];
    let y = 0;
    const label = (words, height) => {
      if (inside) {
        parts.push(s("text", { x: 0, y: y + 11 }, words));
        y += 16;
      } else parts.push(s("text", { x: -12, y: y + height / 2 + 4, "text-anchor": "end" }, words));
    };

    const tall = 104;
    parts.push(s("rect", { x: 0, y, width, height: tall, rx: 6, class: "ground" }));
    for (const span of found) {
      const [first, last] = [span[0], span.at(-1)];
      for (let depth = STACK.length - 1; depth >= 0; depth -= 1) {
        const height = (point) =>
          (y + tall - point.shares.slice(0, depth + 1).reduce((sum, share) => sum + share, 0) * tall).toFixed(1);
        const line = span.map((point) => `L${x(point.time).toFixed(1)},${height(point)}`).join("");
        const [left, right] = [x(first.from).toFixed(1), x(last.to).toFixed(1)];
        const path = `M${left},${height(first)}${line}L${right},${height(last)}V${y + tall}H${left}Z`;
        parts.push(s("path", { d: path, class: `fill e-${STACK[depth]}` }));
      }
    }
    if (!inside) {
      parts.push(
        s("text", { x: -12, y: y + 10, "text-anchor": "end" }, percent(100)),
        s("text", { x: -12, y: y + tall, "text-anchor": "end" }, percent(0)),
      );
    }
    y += tall + 14;

    const valence = `${t("result.valence")} —`,
      arousal = `${t("result.arousal")} ┄`;
    if (inside) label(`${valence}   ${arousal}`, 44);
    else
      parts.push(
        s("text", { x: -12, y: y + 18, "text-anchor": "end" }, valence),
        s("text", { x: -12, y: y + 36, "text-anchor": "end" }, arousal),
      );
    const lane = (key, className) => {
      for (const span of found) {
        const height = (point) => (y + 22 - point[key] * 22).toFixed(1);
        const line = span.map((point) => `L${x(point.time).toFixed(1)},${height(point)}`).join("");
        parts.push(
          s("path", {
            d: `M${x(span[0].from).toFixed(1)},${height(span[0])}${line}H${x(span.at(-1).to).toFixed(1)}`,
            class: className,
          }),
        );
      }
    };
    parts.push(
      s("rect", { x: 0, y, width, height: 44, rx: 6, class: "ground" }),
      s("path", { d: `M0,${y + 22}H${width}`, class: "zero" }),
    );
    lane("valence", "line");
    lane("arousal", "line dashed");
    y += 44 + 12;

    label(t("result.gaze"), 14);
    parts.push(s("rect", { x: 0, y, width, height: 14, rx: 4, class: "ground" }));
    for (const point of found.flat()) {
      if (point.gaze === undefined || point.gaze === 0) continue;
      parts.push(
        s("rect", {
          x: x(point.from),
          y,
          width: Math.max(1, x(point.to) - x(point.from) + 0.3),
          height: 14,
          class: "gaze",
          "fill-opacity": point.gaze.toFixed(2),
        }),
      );
    }
    y += 14 + 10;

    const spans = this.analysis.speech?.spans;
    if (spans) {
      label(t(this.analysis.faces.length > 1 ? "result.talk_any" : "result.talk"), 14);
      parts.push(s("rect", { x: 0, y, width, height: 14, rx: 4, class: "ground" }));
      for (const { start_s: from, end_s: to } of spans)
        parts.push(s("rect", { x: x(from), y, width: Math.max(1, x(to) - x(from)), height: 14, rx: 2, class: "talk" }));
      y += 14 + 10;
    }

    const times = ticks(this.duration, Math.max(2, width / 80));
    times.forEach((time, at) => {
      const last = x(time) > width - 24;
      parts.push(
        s("path", { d: `M${x(time)},${y - 4}v5`, class: "zero" }),
        s(
          "text",
          { x: x(time), y: y + 13, "text-anchor": at === 0 ? "start" : last ? "end" : "middle" },
          this.duration < 60 ? `${number(time, time % 1 ? 1 : 0)} s` : moment(time, this.duration),
        ),
      );
    });
    const height = y + 18;
    plot.line = s("path", { d: `M0,0V${y}`, class: "cursor" });
    plot.width = width;
    plot.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    plot.svg.setAttribute("height", height);
    plot.svg.replaceChildren(...parts, plot.line);
  }
}
