// The section with everything that can be done with a result: report, data, printing, comparing, erasing.

import { call, isShared, json, key, share, shared } from "./api.js";
import { ask, h, icon, save, toast } from "./dom.js";
import * as library from "./library.js";
import { language, locale, t } from "./words.js";

/** Runs `work`, and shows its error. */
const guarded = (work) => async () => {
  try {
    await work();
  } catch (problem) {
    toast(problem.message);
  }
};

/** Returns a list of the other results of this browser to compare with, if there are any. */
function others(token) {
  const known = library.results().filter((entry) => entry.token !== token && entry.status === "done");
  if (known.length === 0 || !library.resultOf(token)) return undefined;
  return h(
    "details",
    { id: "compare-with" },
    h("summary", {}, t("take.compare")),
    h(
      "ul",
      {},
      known
        .slice(0, 10)
        .map((entry) =>
          h(
            "li",
            {},
            h("a", { href: `/#compare=${token},${entry.token}` }, entry.name || t("library.unnamed")),
            " ",
            h("span", { class: "soft small" }, `${entry.headline} · ${library.day(entry, locale)}`),
          ),
        ),
    ),
  );
}

export function take(job, onErase) {
  const { token } = job;
  const fetched = (path, accept, name) =>
    guarded(async () => save(await (await call(path, { headers: { Accept: accept } })).blob(), name));
  const reportPath = `/results/${token}/report?language=${language}`;
  const report =
    key() && !isShared()
      ? h(
          "button",
          { class: "button main", type: "button", onclick: fetched(reportPath, "text/html", "report.html") },
          icon("doc"),
          t("take.report"),
        )
      : h(
          "a",
          { class: "button main", href: shared(reportPath), target: "_blank", rel: "noopener" },
          icon("doc"),
          t("take.report"),
        );
  const button = (name, picture, onclick, kind = "") =>
    h(
      "button",
      { class: `button ${kind}`, type: "button", "data-action": name, onclick },
      icon(picture),
      t(`take.${name}`),
    );
  const erase = guarded(async () => {
    if (
      !(await ask({
        title: t("take.erase_sure"),
        text: t("take.erase_note"),
        yes: t("take.erase_yes"),
        no: t("take.erase_no"),
        isDangerous: true,
      }))
    )
      return;
    await call(`/results/${token}`, { method: "DELETE" });
    library.forget(token);
    onErase();
  });
  const link = guarded(async () => {
    const { pathname, search } = isShared()
      ? { pathname: `/results/${token}`, search: `?share=${share()}` }
      : new URL((await json(`/results/${token}/share`, { method: "POST" })).url);
    await navigator.clipboard.writeText(`${location.origin}${pathname}${search}`);
    const until = new Date(Number(value.split(".")[0]) * 1000);
    toast(t("take.link_copied", { date: until.toLocaleDateString(locale, { dateStyle: "long" }) }));
  });
  return h(
    "section",
    { class: "card stack actions", "aria-labelledby": "take-title" },
    h("h2", { id: "take-title" }, t("result.take")),
    h(
      "div",
      { class: "row" },
      report,
      button("json", "down", fetched(`/results/${token}`, "application/json", "result.json")),
      button("csv", "down", fetched(`/results/${token}/timeline`, "text/csv", "timeline.csv")),
      button("print", "print", () => window.print()),
      button("link", "link", link),
      !isShared() && button("erase", "bin", erase, "quiet danger"),
    ),
    others(token),
    job.expires_at &&
      h(
        "p",
        { class: "soft small" },
        t("take.expires", { date: new Date(job.expires_at).toLocaleDateString(locale, { dateStyle: "long" }) }),
      ),
  );
}
