// Boxes for browsers that show a video without the orientation in its stream.

/** Turns a box of an upright picture of this size back by a quarter turn. */
function turnedBack({ x, y, width, height }, picture) {
  return { x: y, y: picture.width - x - width, width: height, height: width };
}

/**
 * Returns a result's facts of the video and the rows of each person with the boxes in the picture as the browser shows
 * it. Browsers ignore `video.stream_orientation`, so they show the picture as it is stored: not turned, not mirrored.
 */
export function asShown(video, rows) {
  if (!video.stream_orientation) return { video, rows };
  const { mirrored, degrees } = video.stream_orientation;
  const turns = degrees / 90;
  const shown = turns % 2 ? { ...video, width: video.height, height: video.width } : video;
  const box = (bbox) => {
    let size = video;
    for (let turn = 0; turn < turns; turn += 1) {
      bbox = turnedBack(bbox, size);
      size = { width: size.height, height: size.width };
    }
    return mirrored ? { ...bbox, x: shown.width - bbox.x - bbox.width } : bbox;
  };
  const moved = [...rows].map(([id, own]) => [id, own.map((row) => ({ ...row, bbox: box(row.bbox) }))]);
  return { video: shown, rows: new Map(moved) };
}
