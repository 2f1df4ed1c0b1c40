// Draws a box and a label on each face of a picture.

import { s } from "./dom.js";
import { placeLabels } from "./labels.js";

/** Size of the labels on the screen, in CSS pixels. */
const LABEL_PX = 13;

const pen = document.createElement("canvas").getContext("2d");

/** Cuts a box to the visible part of the picture. */
function inside(box, frame) {
  const [x, y] = [Math.max(box.x, frame.x), Math.max(box.y, frame.y)];
  const [right, bottom] = [
    Math.min(box.x + box.width, frame.x + frame.width),
    Math.min(box.y + box.height, frame.y + frame.height),
  ];
  return { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) };
}

/**
 * Draws into `svg`, which covers `screen`. `frame` is the visible part of the picture, and `faces` are {box, label,
 * paint, ink}: `paint` is the class with the colour, and `ink` the colour of the letters.
 */
export function drawBoxes(svg, screen, frame, faces) {
  svg.setAttribute("viewBox", `${frame.x} ${frame.y} ${frame.width} ${frame.height}`);
  // Size of a CSS pixel in pixels of the picture.
  const unit = 1 / Math.min(screen.clientWidth / frame.width, screen.clientHeight / frame.height);
  pen.font = `700 ${LABEL_PX}px ${getComputedStyle(screen).fontFamily}`;
  const seen = faces.map((face) => ({
    ...face,
    ...inside(face.box, frame),
    long: (pen.measureText(face.label).width + LABEL_PX) * unit,
  }));
  const labels = placeLabels(seen, frame, LABEL_PX * 1.5 * unit);
  svg.replaceChildren(
    ...seen.map(({ x, y, width, height, label, paint, ink }, at) =>
      s(
        "g",
        { class: paint },
        s("rect", { class: "edge", x, y, width, height, rx: 5 * unit, fill: "none", "stroke-width": 2.5 * unit }),
        s("rect", {
          class: "fill",
          x: labels[at].x,
          y: labels[at].y,
          width: labels[at].width,
          height: labels[at].height,
          rx: 3 * unit,
        }),
        s(
          "text",
          {
            x: labels[at].x + LABEL_PX * 0.5 * unit,
            y: labels[at].y + LABEL_PX * 1.12 * unit,
            "font-size": LABEL_PX * unit,
            "font-weight": 700,
            fill: ink,
          },
          label,
        ),
      ),
    ),
  );
}
