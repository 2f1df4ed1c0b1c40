// Repairs what Swagger UI, the viewer of this page, lacks for keyboards and screen readers. It runs again after each
// change, because the viewer draws its elements anew.

const viewer = document.getElementById("swagger-ui");
const each = (selector, change) => viewer.querySelectorAll(selector).forEach(change);
const set = (element, name, value) => {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
};

/** The headings, by their level below the title of the page. The viewer skips levels. */
const HEADINGS = [
  [".opblock-tag, section.models h4, .modal-ux-header h3", "2"],
  [".opblock-section-header h4, .responses-inner > div > h4", "3"],
  [".modal-ux-content h4", "3"],
  ["h5, .headers__title, .response-col_description h4", "4"],
];

function repair() {
  // A link within a button cannot be reached by itself, and does the same.
  each(".opblock-summary-control a[href]", (link) => link.removeAttribute("href"));
  for (const [selector, level] of HEADINGS) each(selector, (heading) => set(heading, "aria-level", level));
  each("#servers", (list) => set(list, "aria-label", "Server"));
  each(".close-modal", (button) => set(button, "aria-label", "Close"));
  each(".copy-to-clipboard button", (button) => set(button, "aria-label", "Copy"));
  // A field has the name of its row.
  each("tr select, tr input, tr textarea", (field) => {
    const { paramName, propertyName } = field.closest("tr").dataset;
    const name = propertyName ?? paramName;
    if (name && !field.labels?.length) set(field, "aria-label", name);
  });
  const body = ".body-param__text, .opblock-description-wrapper > input";
  each(body, (field) => set(field, "aria-label", "Request body"));
  // Code that scrolls can be scrolled with the keyboard.
  each("pre", (code) => set(code, "tabindex", "0"));
  // Tables of responses are regions; each has the name of its call.
  each(".responses-table[role=region]", (table) => {
    const call = table.closest(".opblock");
    const [method, path] = ["method", "path"].map((part) => call.querySelector(`.opblock-summary-${part}`).textContent);
    set(table, "aria-label", `Responses of ${method} ${path}`);
  });
}

let isPlanned = false;
new MutationObserver(() => {
  if (isPlanned) return;
  isPlanned = true;
  requestAnimationFrame(() => {
    isPlanned = false;
    repair();
  });
}).observe(viewer, { childList: true, subtree: true });
