// What a live session has shown of each person in the last seconds. Pure functions.

/** If a person is missing in pictures for longer than this, that is a gap. */
const GAP_S = 1;
/** Eye contact is told once it has been the same for this time, so that a blink changes nothing. */
const STEADY_S = 0.4;

export class History {
  /** `span` is the number of seconds that are kept. */
  constructor(span) {
    this.span = span;
    this.time = 0;
    this.known = new Map();
  }

  /** Adds the faces of a picture. */
  push(time, faces) {
    const before = this.time;
    this.time = time;
    for (const { id, state, eye_contact: met } of faces) {
      const person = this.known.get(id) ?? { id, runs: [], isMet: undefined, met: undefined, metSince: -Infinity };
      this.known.set(id, person);
      const last = person.runs.at(-1);
      const isNear = last && (last.end_s >= before || time - last.end_s <= GAP_S);
      if (isNear) last.end_s = time;
      if (!isNear || last.emotion !== state.emotion)
        person.runs.push({ emotion: state.emotion, start_s: time, end_s: time });
      const now = met ?? undefined;
      if (now !== person.met) [person.met, person.metSince] = [now, time];
      if (person.isMet === undefined || time - person.metSince >= STEADY_S) person.isMet = now;
    }
    for (const [id, person] of this.known) {
      person.runs = person.runs.filter((run) => run.end_s > time - this.span || run.end_s === time);
      if (person.runs.length === 0) this.known.delete(id);
    }
  }

  /** Returns the people of the last seconds, those in view first, as {id, isSeen, runs, contact}. */
  people() {
    const people = [...this.known.values()].map(({ id, runs, isMet }) => ({
      id,
      runs,
      contact: isMet,
      isSeen: this.time - runs.at(-1).end_s <= GAP_S,
    }));
    return people.sort((a, b) => b.isSeen - a.isSeen || a.id - b.id);
  }

  /** Returns runs with times from the beginning of the kept seconds. In the beginning these are the first ones. */
  placed(runs) {
    const from = Math.max(0, this.time - this.span);
    return runs.map((run) => ({ ...run, start_s: Math.max(0, run.start_s - from), end_s: run.end_s - from }));
  }
}
