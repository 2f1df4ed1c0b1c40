// What the server put into the page: words in the reader's language, and the limits of this service.

const read = (id) => JSON.parse(document.getElementById(id)?.textContent || "{}");

const words = read("words");
export const settings = read("settings");
export const language = document.documentElement.lang || "en";
/** How the reader's own country writes dates, where its language is the page's. */
export const locale = navigator.languages.find((own) => own.split("-")[0] === language) ?? language;

/** The text of a key, with %{name} replaced; undefined where there is none. */
export function text(key, values = {}) {
  return words[key]?.replace(/%\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** As `text`, for keys that are always there. */
export const t = (key, values) => text(key, values) ?? key;

const format = (value, digits) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const number = (value, digits = 0) => format(value, digits);
export const percent = (value, digits = 0) => (words["format.percent"] ?? "%{n}%").replace("%{n}", format(value, digits));
export const emotion = (name) => t(`emotion.${name}`);

/** How firmly a figure may be put whose interval, on 0 to 100, is this one: the server's rule. */
export function certainty(interval) {
  if (!interval) return "clear";
  const at = settings.certain_up_to.findIndex((most) => interval[1] - interval[0] <= most);
  return ["clear", "likely", "rough"][at] ?? "open";
}

/** A figure as firmly as its interval allows; `show` puts it into words, `spread` on 0 to 100. */
export function figure(value, interval, show, spread = (v) => v) {
  switch (certainty(interval?.map(spread))) {
    case "likely": return t("result.about", { value: show(value) });
    case "rough": return t("result.interval", { low: show(interval[0]), high: show(interval[1]) });
    case "open": return t("result.open");
    default: return show(value);
  }
}

/** A moment of a video: 4.5 s, 1:07, 1:02:07, by the length of the video. */
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
