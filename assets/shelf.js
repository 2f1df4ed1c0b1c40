// The list of this browser's results on the start page.

import { ask, byId, h, icon } from "./dom.js";
import * as library from "./library.js";
import { emotion, locale, t } from "./words.js";

/** Draws the runs that an entry keeps, as [emotion, start, end] in shares of the video. */
const strip = (runs = []) =>
  h(
    "div",
    { class: "ribbon thin", "aria-hidden": "true" },
    runs.map(([name, start, end]) =>
      h("span", {
        class: `e-${name}`,
        title: emotion(name),
        style: { left: `${start * 100}%`, width: `${(end - start) * 100}%` },
      }),
    ),
  );

/** Shows the list, or nothing if this browser has no results. */
export function shelf() {
  const box = byId("library");
  const entries = library.results();
  box.hidden = entries.length === 0;
  const chosen = new Set();
  const go = h(
    "button",
    {
      class: "button",
      type: "button",
      id: "compare-go",
      disabled: true,
      onclick: () => {
        location.hash = `compare=${[...chosen].join(",")}`;
      },
    },
    icon("compare"),
    t("library.compare"),
  );
  const line = (entry) => {
    const name = entry.name || t("library.unnamed");
    return h(
      "li",
      { "data-token": entry.token },
      h("input", {
        type: "checkbox",
        disabled: entry.status !== "done",
        "aria-label": t("library.choose", { name }),
        onchange: (event) => {
          if (event.target.checked) chosen.add(entry.token);
          else chosen.delete(entry.token);
          go.disabled = chosen.size !== 2;
        },
      }),
      h(
        "div",
        {},
        h("a", { class: "name", href: `/results/${entry.token}` }, name),
        h(
          "p",
          { class: "soft small" },
          [entry.headline ?? t(`library.${entry.status}`), library.day(entry, locale)].join(" · "),
        ),
      ),
      strip(entry.runs),
      h(
        "button",
        {
          class: "button quiet small",
          type: "button",
          "aria-label": t("library.remove_of", { name }),
          onclick: () => {
            library.forget(entry.token);
            shelf();
          },
        },
        t("library.remove"),
      ),
    );
  };
  const clear = async () => {
    if (
      !(await ask({
        title: t("library.clear_sure"),
        text: t("library.clear_note"),
        yes: t("library.clear"),
        no: t("take.erase_no"),
        isDangerous: true,
      }))
    )
      return;
    library.forgetAll();
    shelf();
  };
  box.replaceChildren(
    h("h2", { id: "library-title" }, t("library.title")),
    h("p", { class: "soft small" }, t("library.note")),
    h("ul", { class: "shelf" }, entries.map(line)),
    h(
      "div",
      { class: "row" },
      entries.filter((entry) => entry.status === "done").length > 1 && go,
      h("button", { class: "button quiet", type: "button", id: "library-clear", onclick: clear }, t("library.clear")),
    ),
  );
}
