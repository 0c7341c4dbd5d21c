// The reports page: what evaluation has written, newest first, and one of them as its reader wants it.

import { forgetKey, keepKey, readReport, readReports, Refused, storedKey, takeKeyFromAddress } from "./api.js";
import { copyable, el, facts, pill } from "./elements.js";
import { data, markdown } from "./formats.js";

const SHOWN = 200;
const KINDS = ["run", "gate", "advice", "pilot", "online"];
const at = (id) => document.getElementById(id);

let rows = [];
let shown = null; // the open report
let asPage = true; // its page rather than its data, where it has both
let begun = 0; // how often the page began anew
let running = 0;
const asked = { list: 0, report: 0 };

const named = () => new URLSearchParams(location.search).get("report") || "";

// What was asked for last of that part. What comes later, or fails later, than something asked for after it
// is null: nobody waits for it any more.
async function newest(part, answer) {
  const mine = ++asked[part];
  try {
    const found = await answer;
    return mine === asked[part] ? found : null;
  } catch (error) {
    if (mine === asked[part]) throw error;
    return null;
  }
}

function say(state, text) {
  at("link").dataset.state = state;
  at("link").textContent = text;
}

function gate(title, text) {
  at("gate-title").textContent = title;
  at("gate-text").textContent = text;
  at("gate").hidden = false;
  at("forget").hidden = !storedKey();
  document.body.classList.add("locked");
}

function failed(error) {
  if (error instanceof Refused && error.status === 401) gate("This key is not valid", "The gateway does not know this key, or it was revoked. Paste one with scope review, eval, release or admin.");
  else if (error instanceof Refused && error.status === 403) gate("This key may not see reports", `${error.message} Use a key with scope review, eval, release or admin.`);
  say("down", `${error.message}${error.fix ? ` ${error.fix}` : ""}`);
}

function when(text) {
  const time = new Date(text);
  return el("time", { datetime: text, title: time.toISOString() }, time.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }));
}

// ---- the list ----

function drawList() {
  const current = shown?.name ?? named();
  at("list").replaceChildren(...rows.map((row) => el("li", {},
    el("button", { type: "button", "data-report": row.name, "aria-current": row.name === current ? "true" : null, on: { click: () => choose(row.name) } },
      el("span", { class: "name" }, row.name),
      el("span", { class: "meta" }, pill(row.kind), when(row.written_at), `by ${row.written_by}`)))));
  const kind = at("filter-kind").value;
  at("list-note").replaceChildren(...(rows.length ? (rows.length === SHOWN ? [el("p", { class: "muted" }, `The newest ${SHOWN}.`)] : []) : [el("div", { class: "empty" },
    el("p", {}, kind ? `No report of the kind ${kind}.` : "No reports yet. Evaluation writes them with --send:"),
    kind ? null : el("pre", {}, el("code", {}, "twinrail eval online --send")))]));
  at("hint").hidden = !rows.length;
}

async function refresh() {
  const found = await newest("list", readReports({ kind: at("filter-kind").value, limit: SHOWN }));
  if (!found) return;
  rows = found.reports;
  document.body.classList.remove("locked");
  at("gate").hidden = true;
  at("forget").hidden = false;
  say("live", `${rows.length} ${rows.length === 1 ? "report" : "reports"}`);
  drawList();
}

// ---- one report ----

function page(report) {
  if (report.page_type === "text/markdown") return markdown(report.page);
  // An empty sandbox: no script, no form, no pop-up, an origin of its own.
  return el("iframe", { class: "page", sandbox: "", title: `Report ${report.name}`, srcdoc: report.page, referrerpolicy: "no-referrer" });
}

function save(report) {
  const address = URL.createObjectURL(new Blob([`${JSON.stringify(report.content, null, 2)}\n`], { type: "application/json" }));
  el("a", { href: address, download: `${report.name}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function drawReport() {
  const report = shown;
  const pages = asPage && report.page !== null;
  const choice = (text, is, value) => el("button", { type: "button", class: "choice", "aria-pressed": String(is), on: { click: () => turn(value) } }, text);
  at("report").replaceChildren(
    el("header", { class: "report-head" },
      el("h2", { id: "report-title", tabindex: "-1" }, report.name),
      facts([["Kind", pill(report.kind)], ["Written", when(report.written_at)], ["By", report.written_by], ["Digest", copyable(report.sha256, "digest")]]),
      el("div", { class: "choices" },
        report.page === null ? null : [choice("Page", pages, true), choice("Data", !pages, false)],
        el("button", { type: "button", class: "quiet", on: { click: () => save(report) } }, "JSON file"))),
    pages ? page(report) : data(report.content));
}

function turn(value) {
  asPage = value;
  drawReport();
  at("report").querySelector(`.choice[aria-pressed="true"]`)?.focus();
}

async function open(name) {
  const report = await newest("report", readReport(name));
  if (!report) return false;
  shown = report;
  drawList();
  drawReport();
  say("live", "Open");
  return true;
}

function close() {
  asked.report += 1;
  shown = null;
  at("report").replaceChildren();
}

function doing(work) {
  const count = (by) => { running += by; document.body.dataset.busy = running ? "yes" : "no"; };
  count(1);
  return work().catch(failed).finally(() => count(-1));
}

function choose(name) {
  history.pushState(null, "", `${location.pathname}?${new URLSearchParams({ report: name })}`);
  return doing(async () => {
    if (!await open(name)) return;
    at("list").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
    if (matchMedia("(max-width: 860px)").matches) at("report-title").focus();
  });
}

function step(by) {
  const place = rows.findIndex((row) => row.name === (shown?.name ?? named()));
  const next = rows[place < 0 ? 0 : place + by];
  if (next) choose(next.name);
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  d: () => { if (shown && shown.page !== null) turn(!asPage); },
  r: () => doing(refresh),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("input, select, textarea")) return;
  const action = KEYS[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});

for (const kind of KINDS) at("filter-kind").append(el("option", { value: kind }, kind));
at("filter-kind").addEventListener("change", () => { at("filter-kind").blur(); doing(refresh); });
at("again").addEventListener("click", () => doing(refresh));
at("gate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(at("gate-key").value);
  at("gate-key").value = "";
  begin();
});
at("forget").addEventListener("click", () => { forgetKey(); begin(); });
addEventListener("hashchange", () => { takeKeyFromAddress(); begin(); });
addEventListener("popstate", () => { if (storedKey()) doing(show); });

async function show() {
  const name = named();
  if (name) return open(name);
  close();
  return drawList();
}

function begin() {
  const mine = ++begun;
  close();
  asked.list += 1;
  rows = [];
  at("list").replaceChildren();
  at("list-note").replaceChildren();
  at("hint").hidden = true;
  if (storedKey()) return doing(async () => { await refresh(); if (mine === begun) await show(); });
  say("wait", "No key");
  return gate("A key is needed", "Paste an API key with scope review, eval, release or admin.");
}

takeKeyFromAddress();
begin();
