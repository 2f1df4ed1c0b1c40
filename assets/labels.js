// Places the labels of faces so that none covers another, and all lie inside the picture. Pure arithmetic.

const overlap = (a, b) =>
  Math.max(0, Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x)) *
  Math.max(0, Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y));

const clamp = (value, low, high) => Math.max(low, Math.min(value, Math.max(low, high)));

/**
 * Returns the rectangle of each label. `faces` are boxes {x, y, width, height} with the width of their label as `long`,
 * `frame` is the visible part of the picture, and `tall` the height of a label. A label prefers the upper edge of its
 * box, then the other edges, then the nearest free row of the picture.
 */
export function placeLabels(faces, frame, tall) {
  const gap = tall * 0.15;
  const placed = [];
  for (const face of faces) {
    const width = Math.min(face.long, frame.width);
    const [left, right] = [face.x, face.x + face.width - width];
    const [above, below] = [face.y - tall - gap, face.y + face.height + gap];
    const wanted = [
      [left, above],
      [right, above],
      [left, below],
      [right, below],
      [left, face.y],
      [left, face.y + face.height - tall],
    ];
    const rows = Math.floor(frame.height / (tall + gap));
    const fallback = Array.from({ length: rows }, (_, row) => [left, frame.y + row * (tall + gap)]).sort(
      (a, b) => Math.abs(a[1] - above) - Math.abs(b[1] - above),
    );
    const spots = [...wanted, ...fallback].map(([x, y]) => ({
      x: clamp(x, frame.x, frame.x + frame.width - width),
      y: clamp(y, frame.y, frame.y + frame.height - tall),
      width,
      height: tall,
    }));
    // Covering another label costs more than covering another face, which costs more than a less wanted place.
    const cost = (spot, at) =>
      placed.reduce((sum, other) => sum + overlap(spot, other), 0) * 1000 +
      faces.reduce((sum, other) => sum + (other === face ? 0 : overlap(spot, other)), 0) +
      at * 0.01 * tall * tall;
    placed.push(
      spots.map((spot, at) => [cost(spot, at), spot]).reduce((best, next) => (next[0] < best[0] ? next : best))[1],
    );
  }
  return placed;
}
