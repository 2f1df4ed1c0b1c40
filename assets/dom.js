// Short functions that create and show elements. Text is inserted as text, never parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child !== undefined && child !== null && child !== false) element.append(child);
  }
  return element;
}

export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);
export const byId = (id) => document.getElementById(id);

/** Returns the icon with that name from the page's sprite sheet. */
export const icon = (name) =>
  s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, s("use", { href: `#i-${name}` }));

/** Shows one of the page's views, and focuses its heading so that a screen reader starts there. */
export function show(id, focus = true) {
  for (const view of document.querySelectorAll("main > [data-view]")) view.hidden = view.id !== id;
  const heading = byId(id).querySelector("h1, h2");
  if (focus && heading) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

/** Announces a message to screen readers. */
export function say(message) {
  byId("said").textContent = message;
}

let toastTimer;
/** Shows a short message at the lower edge for some seconds. */
export function toast(...content) {
  const box = byId("toast");
  box.replaceChildren(...content);
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => {
    box.hidden = true;
  }, 8000);
}

/** Asks a question in a dialog. Resolves to whether the answer was yes. */
export function ask({ title, text, yes, no, isDangerous }) {
  const dialog = h(
    "dialog",
    { "aria-labelledby": "ask-title" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "ask-title" }, title),
      text && h("p", { class: "soft" }, text),
      h(
        "div",
        { class: "row" },
        h("button", { class: `button ${isDangerous ? "danger" : "main"}`, value: "yes" }, yes),
        h("button", { class: "button", value: "", autofocus: isDangerous }, no),
      ),
    ),
  );
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    dialog.showModal();
  });
}

/** Offers a file for download. */
export function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
