// The results of this browser: a list of them, and the names that a person gave to the people in them. Both are kept in
// this browser alone.

const LIST = "visage-results";
const NAMES = "visage-people";
const MOST = 50;

/** Reads a value. Returns `empty` if the browser keeps none, or does not let pages keep anything. */
function read(key, empty) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? empty;
  } catch {
    return empty;
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    /* the browser keeps nothing, so neither does the page */
  }
}

/** Returns the results of this browser, the newest first. Expired ones are left out. */
export const results = (now = Date.now()) =>
  read(LIST, []).filter((entry) => !entry.expires || Date.parse(entry.expires) > now);

/** The day on which a result was made. */
export const day = (entry, locale) => new Date(entry.at).toLocaleDateString(locale, { dateStyle: "medium" });

export const resultOf = (token) => results().find((entry) => entry.token === token);

/** Adds a result, or changes its entry. */
export function remember(token, facts) {
  const before = results();
  const known = before.find((entry) => entry.token === token) ?? { token, at: Date.now() };
  write(
    LIST,
    [{ ...known, ...facts }, ...before.filter((entry) => entry.token !== token)]
      .sort((a, b) => b.at - a.at)
      .slice(0, MOST),
  );
}

export function forget(token) {
  write(
    LIST,
    results().filter((entry) => entry.token !== token),
  );
  const { [token]: _, ...rest } = read(NAMES, {});
  write(NAMES, rest);
}

export function forgetAll() {
  write(LIST, []);
  write(NAMES, {});
}

/** The names of the people of one result, and which of them are hidden. */
export class People {
  constructor(token, title) {
    this.token = token;
    this.title = title;
    this.own = read(NAMES, {})[token] ?? { names: {}, hidden: [] };
  }

  keep() {
    write(NAMES, { ...read(NAMES, {}), [this.token]: this.own });
  }

  /** The name that the person was given, or "Person 1". */
  name(id) {
    return this.own.names[id] ?? this.title(id);
  }

  /** The name for the label on a face: the given one, or the number. */
  short(id) {
    return this.own.names[id] ?? String(id);
  }

  rename(id, name) {
    const trimmed = name.trim().slice(0, 40);
    if (trimmed) this.own.names[id] = trimmed;
    else delete this.own.names[id];
    this.keep();
  }

  isHidden(id) {
    return this.own.hidden.includes(id);
  }

  hide(id, is) {
    this.own.hidden = [...this.own.hidden.filter((other) => other !== id), ...(is ? [id] : [])];
    this.keep();
  }
}
