// Reads the rows and runs of a result. A run is a span of time in which a person showed one emotion, after smoothing.
// Pure functions.

export const EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

/** Returns the row nearest to a time, or undefined if the face was not seen then. `rows` are sorted by time. */
export function rowAt(rows, time, interval) {
  let low = 0,
    high = rows.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].time_s < time) low = middle + 1;
    else high = middle;
  }
  const near = [rows[low - 1], rows[low]]
    .filter(Boolean)
    .sort((a, b) => Math.abs(a.time_s - time) - Math.abs(b.time_s - time))[0];
  return near && Math.abs(near.time_s - time) <= interval * 0.9 + 0.05 ? near : undefined;
}

/** Interpolates the box of a face between two samples. */
export function boxAt(rows, row, time, interval) {
  const at = rows.indexOf(row);
  const other = row.time_s <= time ? rows[at + 1] : rows[at - 1];
  if (!other || Math.abs(other.time_s - row.time_s) > interval * 1.75) return row.bbox;
  const share = (time - row.time_s) / (other.time_s - row.time_s);
  return Object.fromEntries(
    ["x", "y", "width", "height"].map((side) => [side, row.bbox[side] + share * (other.bbox[side] - row.bbox[side])]),
  );
}

/** Returns the emotion that box, ribbon and text name at a time: that of the run, or of the row if there is no run. */
export function shownEmotion(face, row, time) {
  const within = (moment) => face.segments.find((run) => run.start_s <= moment && moment < run.end_s);
  const run = within(time) ?? within(row.time_s);
  return run?.emotion ?? EMOTIONS.reduce((best, next) => (row.emotions[next] > row.emotions[best] ? next : best));
}

/**
 * Returns runs as [emotion, start, end] in shares of the video. More than `most` runs are drawn into `most` cells of
 * equal length, each with the run in its middle.
 */
export function shortened(runs, duration, most) {
  const share = (time) => Math.round((time / duration) * 1000) / 1000;
  if (runs.length <= most) return runs.map((run) => [run.emotion, share(run.start_s), share(run.end_s)]);
  const cells = [];
  for (let n = 0; n < most; n += 1) {
    const middle = ((n + 0.5) / most) * duration;
    const run = runs.find(({ start_s: start, end_s: end }) => start <= middle && middle < end);
    const last = cells.at(-1);
    if (run && last?.[0] === run.emotion && last[2] === n / most) last[2] = (n + 1) / most;
    else if (run) cells.push([run.emotion, n / most, (n + 1) / most]);
  }
  return cells;
}

/** Returns the person who was seen in most samples. */
export const mainFace = (faces) =>
  faces.reduce((most, face) => (face.frames > (most?.frames ?? 0) ? face : most), undefined);

/**
 * Returns the time at which the player opens: in the longest run of the emotion that the headline names last, the
 * sample in which that emotion is strongest. `rowsOf` gives the rows of a face.
 */
export function tellingMoment(faces, rowsOf) {
  const face = mainFace(faces);
  if (!face) return undefined;
  const named = face.story?.then ?? face.story?.emotion ?? face.dominant_emotion;
  const length = (run) => run.end_s - run.start_s;
  const own = face.segments.filter((run) => run.emotion === named);
  const run = own.reduce((longest, next) => (!longest || length(next) > length(longest) ? next : longest), undefined);
  const rows = rowsOf(face.id).filter((row) => !run || (run.start_s <= row.time_s && row.time_s < run.end_s));
  return rows.reduce((best, row) => (!best || row.emotions[named] > best.emotions[named] ? row : best), undefined)
    ?.time_s;
}

/** Returns the row that shows a face best: the one of highest quality, and of these the largest. */
export function bestRow(rows) {
  const worth = (row) => (row.quality ?? 0.5) * Math.sqrt(row.bbox.width * row.bbox.height);
  return rows.reduce((best, row) => (!best || worth(row) > worth(best) ? row : best), undefined);
}

/** Returns the number of samples a second for a level of detail. Undefined: the service decides. */
export function samplesPerSecond(level, duration) {
  const isShort = duration < 60;
  return { quick: isShort ? 2 : 1, normal: isShort ? 5 : undefined, fine: isShort ? 15 : 5 }[level];
}

/** Estimates the duration of a video that the browser cannot read from its size, at 8 Mbit/s. */
export const estimatedDuration = (bytes) => bytes / 1_000_000;

/** Splits what a person types into mail addresses. */
export const addresses = (typed) => typed.split(/[\s,;]+/).filter(Boolean);

/** Compares two figures by their intervals: "first" or "second" is higher, "same", or "unknown" without both. */
export function compareFigures(first, second) {
  if ([first, second].some((side) => side?.value === undefined || side.value === null || !side.interval))
    return "unknown";
  if (first.interval[0] > second.interval[1]) return "first";
  if (second.interval[0] > first.interval[1]) return "second";
  return "same";
}
