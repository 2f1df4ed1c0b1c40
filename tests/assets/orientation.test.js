import assert from "node:assert/strict";
import test from "node:test";

import { asShown } from "../../assets/orientation.js";

/** The result of a stored picture of 40 x 30 with a face in its upper left corner: 8 wide, 10 high. */
const results = [
  { mirrored: false, degrees: 90, size: [30, 40], bbox: { x: 20, y: 0, width: 10, height: 8 } },
  { mirrored: false, degrees: 180, size: [40, 30], bbox: { x: 32, y: 20, width: 8, height: 10 } },
  { mirrored: false, degrees: 270, size: [30, 40], bbox: { x: 0, y: 32, width: 10, height: 8 } },
  { mirrored: true, degrees: 0, size: [40, 30], bbox: { x: 32, y: 0, width: 8, height: 10 } },
  { mirrored: true, degrees: 90, size: [30, 40], bbox: { x: 20, y: 32, width: 10, height: 8 } },
  { mirrored: true, degrees: 180, size: [40, 30], bbox: { x: 0, y: 20, width: 8, height: 10 } },
  { mirrored: true, degrees: 270, size: [30, 40], bbox: { x: 0, y: 0, width: 10, height: 8 } },
];

test("boxes lie on the face in the stored picture, whatever its orientation", () => {
  for (const { mirrored, degrees, size, bbox } of results) {
    const video = { width: size[0], height: size[1], stream_orientation: { mirrored, degrees } };
    const shown = asShown(video, new Map([[1, [{ time_s: 0, bbox }]]]));
    const name = `${degrees} degrees, ${mirrored ? "mirrored" : "not mirrored"}`;
    assert.deepEqual([shown.video.width, shown.video.height], [40, 30], name);
    assert.deepEqual(shown.rows.get(1), [{ time_s: 0, bbox: { x: 0, y: 0, width: 8, height: 10 } }], name);
  }
});

test("a video without an orientation in its stream stays as it is", () => {
  const [video, rows] = [{ width: 40, height: 30 }, new Map()];
  assert.deepEqual(asShown(video, rows), { video, rows });
});
