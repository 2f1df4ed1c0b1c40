// Reads the data that the server puts into the page: texts in the reader's language, and the limits of this service.
// Formats figures. These are the only functions of the page that round a figure.

const read = (id) => JSON.parse(globalThis.document?.getElementById(id)?.textContent || "{}");

const words = read("words");
export const settings = read("settings");
export const language = globalThis.document?.documentElement.lang || "en";
/** The reader's own locale for dates if it has the language of the page, otherwise the language of the page. */
export const locale = globalThis.navigator?.languages?.find((own) => own.split("-")[0] === language) ?? language;

/** Returns the text of a key with %{name} replaced, or undefined if there is none. */
export function text(key, values = {}) {
  return words[key]?.replace(/%\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Returns the text of a key, or the key itself if there is none. */
export const t = (key, values) => text(key, values) ?? key;

/** Returns the singular text for one, or the plural text. */
export const count = (key, n, values = {}) => t(`${key}_${n === 1 ? "one" : "many"}`, { n: number(n), ...values });

/**
 * Rounds as the report does: to the nearest, and to the even digit if two are equally near. `toFixed` uses the exact
 * value too, but rounds such a tie up.
 */
export function rounded(value, digits = 0) {
  const up = Number(Math.abs(value).toFixed(digits));
  const isTie = (Math.abs(value) * 2 ** (digits + 1)) % 2 === 1;
  const isOdd = Math.round(up * 10 ** digits) % 2 === 1;
  const size = isTie && isOdd ? Number((up - 10 ** -digits).toFixed(digits)) : up;
  return value < 0 && size !== 0 ? -size : size;
}

const format = (value, digits) =>
  rounded(value, digits).toLocaleString(language, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    useGrouping: false,
  });

export const number = (value, digits = 0) => format(value, digits);
export const percent = (value, digits = 0) =>
  (words["format.percent"] ?? "%{n}%").replace("%{n}", format(value, digits));
export const emotion = (name) => t(`emotion.${name}`);

/** Returns the certainty of a figure by the width of its interval on 0 to 100. Same rule as on the server. */
export function certainty(interval) {
  if (!interval) return "clear";
  const at = settings.certain_up_to.findIndex((most) => interval[1] - interval[0] <= most);
  return ["clear", "likely", "rough"][at] ?? "open";
}

/**
 * Formats a figure by the certainty of its interval. `show` formats a value, and `spread` maps it to 0 to
 * 100. Same rules as on the server.
 */
export function figure(value, interval, { show = (v) => number(v), spread = (v) => v } = {}) {
  switch (certainty(interval?.map(spread))) {
    case "likely":
      return t("result.about", { value: show(value) });
    case "rough":
      return t("result.interval", { low: show(interval[0]), high: show(interval[1]) });
    case "open":
      return t("result.open");
    default:
      return show(value);
  }
}

/** Formats a time of a video as 4.5 s, 1:07 or 1:02:07, depending on the length of the video. */
export function moment(time, duration) {
  if (duration < 60) return `${number(time, 1)} s`;
  const whole = Math.max(0, Math.round(time));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return duration >= 3600 ? `${h}:${two(m)}:${two(s)}` : `${h * 60 + m}:${two(s)}`;
}

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB"];
  let at = 0;
  while (count >= 1000 && at < units.length - 1) {
    count /= 1000;
    at += 1;
  }
  return `${number(count, at > 1 && count < 100 ? 1 : 0)}\u00a0${units[at]}`;
}
