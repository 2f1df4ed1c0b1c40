// The operator's page: queue, workers, failures, throughput, analyses, messages, keys, versions, and the request
// log. The key is kept until the tab is closed.

import { call, forgetKey, json, keepKey, key, pause } from "./api.js";
import { byId, h, s, say, toast } from "./dom.js";
import { bytes, count, locale, number, percent, t } from "./words.js";

const EVERY_MS = 3000;
/** Refreshes of the overview for each refresh of the messages and of versions and storage. */
const SLOWER = 5;
const SCOPES = ["analyze", "read", "logs", "urgent", "admin"];
const STATES = ["queued", "running", "done", "failed", "cancelled", "expired"];
const root = byId("admin");

const when = (time) =>
  time
    ? h("time", { datetime: time }, new Date(time).toLocaleString(locale, { dateStyle: "short", timeStyle: "medium" }))
    : "–";
const clock = (time) => new Date(time).toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit" });
const ago = (time) => {
  const seconds = Math.max(0, (Date.now() - new Date(time)) / 1000);
  return t("admin.ago", {
    time:
      seconds < 60
        ? `${number(seconds)} s`
        : seconds < 3600
          ? `${number(seconds / 60)} min`
          : seconds < 86_400
            ? `${number(seconds / 3600, 1)} h`
            : `${number(seconds / 86_400)} d`,
  });
};

function table(heads, rows, empty) {
  if (rows.length === 0) return h("p", { class: "soft" }, empty);
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": heads.join(", ") },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map((head) => h("th", { scope: "col" }, head)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((cells) =>
          h(
            "tr",
            {},
            cells.map((cell) => h("td", {}, cell)),
          ),
        ),
      ),
    ),
  );
}

const link = (token) => h("a", { href: `/results/${token}` }, h("code", {}, token.slice(0, 8)));
const short = (name) => h("code", {}, name);

function section(title, ...content) {
  const id = `s-${title.replace(/\W/g, "").toLowerCase()}`;
  return h("section", { class: "card stack", "aria-labelledby": id }, h("h2", { id }, title), ...content);
}

/** Draws a bar for each hour of the last day: finished analyses at the bottom, failed ones on top. */
function throughput(hours) {
  const most = Math.max(1, ...hours.map((hour) => hour.done + hour.failed));
  const bars = hours.flatMap((hour, at) => {
    const [done, failed] = [(hour.done / most) * 84, (hour.failed / most) * 84];
    const label = `${clock(hour.from)}: ${hour.done} / ${hour.failed}`;
    return [
      s("rect", { x: at * 10 + 1, y: 2, width: 8, height: 88, class: "hover" }, s("title", {}, label)),
      s("rect", { x: at * 10 + 1.5, y: 90 - done, width: 7, height: done, rx: 1, class: "point" }),
      s("rect", { x: at * 10 + 1.5, y: 90 - done - failed, width: 7, height: failed, rx: 1, class: "fail" }),
    ];
  });
  const sum = (name) => hours.reduce((total, hour) => total + hour[name], 0);
  const told = t("admin.day", { done: number(sum("done")), failed: number(sum("failed")) });
  return section(
    t("admin.throughput"),
    h("p", { class: "soft" }, told),
    s(
      "svg",
      { class: "bars", viewBox: "0 0 240 92", preserveAspectRatio: "none", role: "img", "aria-label": told },
      s("path", { d: "M0,90.5H240", class: "zero" }),
      bars,
    ),
    h(
      "p",
      { class: "row head soft small", "aria-hidden": "true" },
      [0, 6, 12, 18].map((at) => hours[at] && h("span", {}, clock(hours[at].from))),
      h("span", {}, t("admin.now")),
    ),
  );
}

async function retry(token, button) {
  button.disabled = true;
  try {
    await call(`/v1/admin/jobs/${token}/retry`, { method: "POST" });
    toast(t("admin.retried"));
    await refresh();
  } catch (problem) {
    button.disabled = false;
    toast(problem.message);
  }
}

function draw(now) {
  const alive = now.workers.filter((worker) => worker.alive);
  const figure = (name, value) =>
    h("div", { class: "card" }, h("span", { class: "soft" }, t(`admin.${name}`)), h("strong", {}, number(value)));
  const retryButton = (job) => {
    if (!job.can_retry) return h("span", { class: "soft small" }, t("admin.video_gone"));
    const button = h(
      "button",
      { class: "button", type: "button", "aria-label": `${t("admin.retry")} ${job.token.slice(0, 8)}` },
      t("admin.retry"),
    );
    button.addEventListener("click", () => retry(job.token, button));
    return button;
  };
  byId("now").replaceChildren(
    h(
      "div",
      { class: "numbers" },
      figure("queued", now.queue.queued),
      figure("running", now.queue.running),
      figure("alive", alive.length),
      figure("mails", now.queue.mails),
    ),
    throughput(now.throughput),
    section(
      t("admin.jobs"),
      table(
        [t("admin.job"), t("admin.since"), t("admin.attempt"), t("admin.worker"), t("work.progress")],
        now.running.map((job) => [
          link(job.token),
          when(job.started_at),
          number(job.attempts),
          short(job.worker ?? "–"),
          h(
            "span",
            {},
            h(
              "span",
              {
                class: "meter",
                role: "progressbar",
                "aria-label": t("work.progress"),
                "aria-valuenow": Math.round((job.progress.fraction ?? 0) * 100),
              },
              h("i", { style: { transform: `scaleX(${job.progress.fraction ?? 0})` } }),
            ),
            h(
              "span",
              { class: "small soft" },
              job.progress.fraction === null ? number(job.progress.frames_done) : percent(job.progress.fraction * 100),
            ),
          ),
        ]),
        t("admin.no_jobs"),
      ),
    ),
    section(
      t("admin.failures"),
      now.failures.length > 0 &&
        h(
          "p",
          { class: "soft small", id: "retries" },
          now.failed_videos_h > 0 ? count("admin.kept", now.failed_videos_h) : t("admin.not_kept"),
        ),
      table(
        [t("admin.job"), t("admin.time"), t("admin.reason"), t("admin.attempt"), t("admin.retry")],
        now.failures.map((job) => [
          link(job.token),
          when(job.finished_at),
          h("span", { class: "reason" }, h("code", {}, job.code), " ", job.detail),
          number(job.attempts),
          retryButton(job),
        ]),
        t("admin.no_failures"),
      ),
    ),
    section(
      t("admin.workers"),
      table(
        [t("admin.worker"), t("admin.state"), t("admin.busy"), t("admin.seen"), t("admin.since")],
        now.workers.map((worker) => [
          short(worker.name),
          h("strong", { class: worker.alive ? "good" : "bad" }, t(worker.alive ? "admin.is_alive" : "admin.is_silent")),
          `${number(worker.running)} / ${number(worker.concurrency)}`,
          ago(worker.seen_at),
          when(worker.started_at),
        ]),
        t("admin.no_workers"),
      ),
    ),
  );
}

async function refresh() {
  draw(await json("/v1/admin/overview"));
  byId("stale").hidden = true;
}

/** Returns a button that acts when it is clicked for the second time. */
function sureButton(name, label, act) {
  const button = h("button", { class: "button", type: "button", "aria-label": `${name} ${label}` }, name);
  button.addEventListener("click", async () => {
    if (!button.classList.contains("danger")) {
      button.classList.add("danger");
      button.textContent = t("admin.sure");
      button.setAttribute("aria-label", `${name} ${label}: ${t("admin.sure")}`);
      return;
    }
    button.disabled = true;
    try {
      await act();
    } catch (problem) {
      button.disabled = false;
      toast(problem.message);
    }
  });
  return button;
}

/** Calls and shows the result in a box; an error too. */
async function into(id, path, drawn) {
  const box = byId(id);
  try {
    const answer = await json(path);
    box.replaceChildren(...drawn(answer).filter(Boolean));
  } catch (problem) {
    box.replaceChildren(h("p", { class: "note bad", role: "alert" }, problem.message));
  }
}

async function find(form) {
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  await into("found", `/v1/admin/jobs?${query}`, ({ analyses, next }) => [
    h(
      "p",
      { class: "soft small" },
      next ? t("admin.newest", { n: number(analyses.length) }) : count("admin.found", analyses.length),
    ),
    table(
      ["job", "file", "state", "owner", "sent", "action"].map((name) => t(`admin.${name}`)),
      analyses.map((job) => [
        link(job.token),
        h("span", { class: "reason file" }, job.file_name ?? "–"),
        h(
          "span",
          {},
          t(`admin.status_${job.status}`),
          " ",
          job.queue && h("span", { class: "soft small" }, t("admin.ahead", { n: number(job.queue.ahead) })),
          job.code && short(job.code),
        ),
        job.key ? short(job.key) : "–",
        when(job.created_at),
        sureButton(t(job.finished_at ? "admin.erase" : "admin.cancel"), job.token.slice(0, 8), async () => {
          await call(`/results/${job.token}`, { method: "DELETE" });
          toast(t("admin.erased"));
          await find(form);
        }),
      ]),
      t("admin.no_analyses"),
    ),
  ]);
}

const messages = () =>
  into("messages", "/v1/admin/messages", ({ messages: failed, kept_h: hours }) => [
    failed.length > 0 &&
      h(
        "p",
        { class: "soft small" },
        hours > 0 ? count("admin.addresses_kept", hours) : t("admin.addresses_not_kept"),
      ),
    table(
      ["kind", "job", "state", "time", "reason", "attempt", "action"].map((name) => t(`admin.${name}`)),
      failed.map((message) => {
        const again = h(
          "button",
          { class: "button", type: "button", "aria-label": `${t("admin.resend")} ${message.id.slice(0, 8)}` },
          t("admin.resend"),
        );
        again.addEventListener("click", async () => {
          again.disabled = true;
          try {
            await call(`/v1/admin/messages/${message.id}/retry`, { method: "POST" });
            toast(t("admin.resent"));
            await messages();
          } catch (problem) {
            again.disabled = false;
            toast(problem.message);
          }
        });
        return [
          t(`admin.kind_${message.kind}`),
          link(message.token),
          t(message.state === "given_up" ? "admin.given_up" : "admin.tried_again"),
          when(message.at),
          h("span", { class: "reason" }, message.error),
          number(message.attempts),
          message.can_retry ? again : h("span", { class: "soft small" }, t("admin.address_gone")),
        ];
      }),
      t("admin.no_messages"),
    ),
  ]);

const keys = () =>
  into("keys", "/v1/admin/keys", ({ keys: all }) => [
    table(
      ["owner", "name", "scopes", "state", "expires", "last_used", "action"].map((name) => t(`admin.${name}`)),
      all.map((own) => [
        short(own.id),
        h("span", { class: "reason" }, own.name),
        own.scopes.join(", "),
        h("strong", { class: own.state === "good" ? "good" : "bad" }, t(`admin.key_${own.state}`)),
        own.expires_at ? when(own.expires_at) : t("admin.never"),
        own.last_used_at ? when(own.last_used_at) : t("admin.never"),
        own.state === "revoked"
          ? "–"
          : sureButton(t("admin.revoke"), own.id, async () => {
              await call(`/v1/admin/keys/${own.id}`, { method: "DELETE" });
              toast(t("admin.revoked"));
              await keys();
            }),
      ]),
      t("admin.no_keys"),
    ),
  ]);

async function createKey(form) {
  const given = new FormData(form);
  const days = given.get("days");
  const wanted = {
    name: given.get("name"),
    scopes: given.getAll("scope"),
    expires_in_days: days ? Number(days) : null,
  };
  const box = byId("created");
  try {
    const answer = await json("/v1/admin/keys", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(wanted),
    });
    box.replaceChildren(
      h(
        "p",
        { class: "note", role: "status" },
        t("admin.created"),
        " ",
        h("code", { class: "reason", tabindex: 0 }, answer.key),
      ),
    );
    form.reset();
    await keys();
  } catch (problem) {
    box.replaceChildren(h("p", { class: "note bad", role: "alert" }, problem.message));
  }
}

const system = () =>
  into("system", "/v1/admin/system", (now) => {
    const { storage, database } = now;
    const space = {
      size: bytes(storage.video_bytes),
      quota: bytes(storage.quota_bytes ?? 0),
    };
    const facts = [
      [t("admin.program"), now.version],
      [t("admin.database"), t("admin.migration", { kind: database.kind, n: database.migration })],
      ...now.libraries.map((library) => [library.name, library.version ?? t("admin.unusable")]),
      ...now.models.map((model) => [t("admin.model", { name: model.name }), short(model.sha256.slice(0, 16))]),
      now.metrics_version !== null && [t("admin.metrics"), number(now.metrics_version)],
      [
        t("admin.stored"),
        count(storage.quota_bytes === null ? "admin.stored_value" : "admin.of_quota", storage.videos, space),
      ],
      storage.free_bytes !== null && [
        t("admin.free"),
        t("admin.free_value", { free: bytes(storage.free_bytes), all: bytes(storage.disk_bytes) }),
      ],
    ];
    return [
      h(
        "dl",
        { class: "plain" },
        facts.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
      ),
    ];
  });

async function logs(form) {
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  query.set("limit", "200");
  const box = byId("log");
  try {
    const { logs: entries, count: found, more } = await json(`/logs?${query}`);
    box.replaceChildren(
      h("p", { class: "soft small" }, more ? t("admin.first", { n: number(found) }) : count("admin.entries", found)),
      table(
        ["timestamp", "method", "endpoint", "status", "latency", "client", "error"].map((name) => t(`admin.${name}`)),
        entries.map((entry) => [
          when(entry.timestamp),
          entry.request_method,
          h("code", {}, entry.endpoint),
          h("strong", { class: entry.success ? "good" : "bad" }, entry.status_code),
          `${number(entry.latency_ms)} ms`,
          entry.client_id ?? "–",
          entry.error_message ?? entry.prediction ?? "–",
        ]),
        t("admin.no_entries"),
      ),
    );
    say(count("admin.entries", found));
  } catch (problem) {
    box.replaceChildren(h("p", { class: "note bad", role: "alert" }, problem.message));
  }
}

function signIn(reason) {
  const field = h("input", { type: "password", id: "key", required: true, autocomplete: "off", spellcheck: "false" });
  const form = h(
    "form",
    { class: "stack" },
    h("label", { class: "field" }, t("admin.key"), field, h("small", {}, t("admin.key_note"))),
    h("button", { class: "button main" }, t("admin.sign_in")),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    keepKey(field.value.trim());
    await enter();
  });
  root.replaceChildren(
    h(
      "section",
      { class: "card signin" },
      h("h1", {}, t("admin.title")),
      reason && h("p", { class: "note bad", role: "alert" }, reason),
      form,
    ),
  );
  field.focus();
}

// Counts sign-ins and sign-outs. A refresh loop ends when the number has changed.
let session = 0;

function dashboard() {
  const field = (name, type, more = {}) =>
    h("label", { class: "field" }, t(`admin.${name}`), h("input", { type, name, ...more }));
  const filters = h(
    "form",
    { class: "filters", id: "log-filters" },
    field("start_date", "date"),
    field("end_date", "date"),
    field("status_code", "number", { min: 100, max: 599 }),
    h(
      "label",
      { class: "field" },
      t("admin.success"),
      h(
        "select",
        { name: "success" },
        h("option", { value: "" }, t("admin.any")),
        h("option", { value: "True" }, t("admin.good")),
        h("option", { value: "False" }, t("admin.bad")),
      ),
    ),
    field("client_id", "text"),
    h("button", { class: "button" }, t("admin.filter")),
  );
  filters.addEventListener("submit", (event) => {
    event.preventDefault();
    logs(filters);
  });
  const search = h(
    "form",
    { class: "filters", id: "search" },
    field("search", "text", { maxlength: 200 }),
    h(
      "label",
      { class: "field" },
      t("admin.state"),
      h(
        "select",
        { name: "status" },
        h("option", { value: "" }, t("admin.any")),
        STATES.map((state) => h("option", { value: state }, t(`admin.status_${state}`))),
      ),
    ),
    h("label", { class: "field" }, t("admin.owner"), h("input", { type: "text", name: "key" })),
    h("button", { class: "button" }, t("admin.filter")),
  );
  search.addEventListener("submit", (event) => {
    event.preventDefault();
    find(search);
  });
  const maker = h(
    "form",
    { class: "filters", id: "new-key" },
    h(
      "label",
      { class: "field" },
      t("admin.name"),
      h("input", { type: "text", name: "name", required: true, maxlength: 200, autocomplete: "off" }),
    ),
    h(
      "label",
      { class: "field" },
      t("admin.days"),
      h("input", { type: "number", name: "days", min: 1, max: 36500 }),
      h("small", {}, t("admin.days_note")),
    ),
    h(
      "fieldset",
      { class: "field" },
      h("legend", {}, t("admin.scopes")),
      SCOPES.map((scope) =>
        h(
          "label",
          { class: "scope" },
          h("input", {
            type: "checkbox",
            name: "scope",
            value: scope,
            checked: scope === "analyze" || scope === "read",
          }),
          scope,
        ),
      ),
    ),
    h("button", { class: "button" }, t("admin.create")),
  );
  maker.addEventListener("submit", (event) => {
    event.preventDefault();
    createKey(maker);
  });
  const out = h(
    "button",
    {
      class: "button quiet",
      type: "button",
      onclick: () => {
        session += 1;
        forgetKey();
        signIn();
      },
    },
    t("admin.sign_out"),
  );
  root.replaceChildren(
    h("div", { class: "row head" }, h("h1", {}, t("admin.title")), out),
    h("p", { class: "note", id: "stale", role: "status", hidden: true }, t("work.lost")),
    h("div", { class: "stack", id: "now" }),
    section(t("admin.find"), search, h("div", { id: "found" })),
    section(t("admin.messages"), h("div", { id: "messages" })),
    section(
      t("admin.keys"),
      h("div", { id: "keys" }),
      h("h3", {}, t("admin.new_key")),
      maker,
      h("div", { id: "created" }),
    ),
    section(t("admin.system"), h("div", { id: "system" })),
    section(t("admin.log"), filters, h("div", { id: "log" })),
  );
  return { filters, search };
}

/** Shows the overview if the key is valid, and refreshes it. */
async function enter() {
  session += 1;
  const own = session;
  let now;
  try {
    const response = await fetch("/v1/admin/overview", {
      headers: { Authorization: `Bearer ${key()}` },
      cache: "no-store",
    });
    if (response.status === 401 || response.status === 403) {
      forgetKey();
      return signIn(t(response.status === 401 ? "error.wrong_key" : "error.scope_required"));
    }
    now = await response.json();
    if (!response.ok) throw new Error(now.detail);
  } catch (error) {
    return signIn(error instanceof TypeError ? t("error.connection") : t("error.internal"));
  }
  const { filters, search } = dashboard();
  draw(now);
  logs(filters);
  find(search);
  messages();
  keys();
  system();
  for (let round = 1; session === own; round += 1) {
    await pause(EVERY_MS);
    const isUsed = (id) => document.hidden || session !== own || byId(id)?.contains(document.activeElement);
    if (round % SLOWER === 0 && !isUsed("messages")) messages();
    if (round % SLOWER === 0 && !isUsed("system")) system();
    // A refresh would take the focus away from a person who uses the keyboard in the overview.
    if (isUsed("now")) continue;
    try {
      await refresh();
    } catch {
      if (byId("stale")) byId("stale").hidden = false;
    }
  }
}

if (key()) enter();
else signIn();
