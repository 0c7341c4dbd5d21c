// A report's Markdown and JSON as nodes. What a report says is text and never markup: see elements.js.

import { el, link } from "./elements.js";

const MOST_ROWS = 200;
// No part may hold what begins it, so that a line is read through once however many parts it leaves open.
const INLINE = /(`[^`]+`|\*\*[^*]+\*\*|\[[^[\]]+\]\([^()\s]+\))/;
const CELLS = /(?<!\\)\|/;

// ---- Markdown: headings, paragraphs, lists, tables and code, as our reports use them ----

export function markdown(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const blocks = [];
  let place = 0;
  const taken = (isPart) => {
    const begin = place;
    while (place < lines.length && isPart(lines[place])) place += 1;
    return lines.slice(begin, place);
  };
  while (place < lines.length) {
    const line = lines[place];
    if (!line.trim()) place += 1;
    else if (line.startsWith("```")) {
      place += 1;
      blocks.push(el("pre", {}, el("code", {}, taken((each) => !each.startsWith("```")).join("\n"))));
      place += 1;
    } else if (/^#{1,6} /.test(line)) {
      const depth = line.indexOf(" ");
      blocks.push(el(`h${Math.min(5, depth + 2)}`, {}, inline(line.slice(depth + 1))));
      place += 1;
    } else if (line.startsWith("|")) blocks.push(markdownTable(taken((each) => each.startsWith("|"))));
    else if (/^\s*[-*] /.test(line)) blocks.push(list("ul", taken((each) => /^\s*[-*] /.test(each)), /^\s*[-*] /));
    else if (/^\s*\d+\. /.test(line)) blocks.push(list("ol", taken((each) => /^\s*\d+\. /.test(each)), /^\s*\d+\. /));
    else blocks.push(el("p", {}, inline(taken((each) => each.trim() && !/^(#{1,6} |```|\||\s*[-*] |\s*\d+\. )/.test(each)).join(" "))));
  }
  return el("div", { class: "card prose" }, blocks);
}

function inline(text) {
  return text.split(INLINE).map((part, number) => {
    if (number % 2 === 0) return part;
    if (part.startsWith("`")) return el("code", {}, part.slice(1, -1));
    if (part.startsWith("**")) return el("strong", {}, part.slice(2, -2));
    const middle = part.indexOf("](");
    return link(part.slice(middle + 2, -1), part.slice(1, middle));
  });
}

const list = (tag, lines, mark) => el(tag, {}, lines.map((line) => el("li", {}, inline(line.replace(mark, "")))));

function markdownTable(lines) {
  const rows = lines.map((line) => line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "").split(CELLS).map((cell) => cell.trim().replaceAll("\\|", "|")));
  const [header, ...rest] = rows;
  const body = rest.filter((cells) => !cells.every((cell) => /^:?-+:?$/.test(cell)));
  return table(header, body.map((cells) => cells.map(inline)));
}

function table(header, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" }, el("table", {},
    el("thead", {}, el("tr", {}, header.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell) => el("td", {}, cell)))))));
}

// ---- JSON: fields as facts, rows of alike objects as a table, what is deep behind a fold ----

const plain = (name) => name.replaceAll("_", " ");
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isFlat = (value) => value === null || typeof value !== "object" || (Array.isArray(value) && value.every((each) => each === null || typeof each !== "object"));

export const data = (content) => el("div", { class: "card data" }, Object.keys(content).length ? shown(content, 0) : el("p", { class: "muted" }, "Empty."));

function shown(value, depth) {
  if (value === null || value === "") return el("span", { class: "muted" }, "–");
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : el("span", { title: String(value) }, String(Number(value.toPrecision(4))));
  if (typeof value === "string") return value.includes("\n") ? el("pre", {}, value) : value;
  if (Array.isArray(value)) return many(value, depth);
  const names = Object.keys(value);
  if (!names.length) return el("span", { class: "muted" }, "–");
  return el("dl", { class: "facts" }, names.map((name) => [el("dt", {}, plain(name)), el("dd", {}, folded(value[name], depth + 1))]));
}

function many(values, depth) {
  if (!values.length) return el("span", { class: "muted" }, "none");
  if (isFlat(values)) {
    const short = values.every((each) => String(each).length < 40) && values.length <= 12;
    return short ? values.map(String).join(", ") : capped(values, (some) => el("ul", {}, some.map((each) => el("li", {}, shown(each, depth)))));
  }
  if (values.every((each) => isObject(each) && Object.values(each).every(isFlat))) {
    const names = [...new Set(values.flatMap(Object.keys))];
    return capped(values, (some) => table(names.map(plain), some.map((row) => names.map((name) => (name in row ? shown(row[name], depth) : "")))));
  }
  return capped(values, (some) => el("ul", {}, some.map((each) => el("li", {}, folded(each, depth + 1)))));
}

function capped(values, show) {
  const rest = values.length - MOST_ROWS;
  return rest > 0 ? [show(values.slice(0, MOST_ROWS)), el("p", { class: "muted" }, `${rest} more are in the JSON file.`)] : show(values);
}

// Built when it is opened: a report may hold thousands of rows.
function folded(value, depth) {
  const size = value !== null && typeof value === "object" ? Object.keys(value).length : 0;
  if (size < 2 || (depth < 2 && size <= 12) || (Array.isArray(value) && isFlat(value) && size <= 12)) return shown(value, depth);
  const named = isObject(value) ? value.name ?? value.title : null;
  const summary = typeof named === "string" ? named : `${size} ${Array.isArray(value) ? "rows" : "fields"}`;
  const details = el("details", {}, el("summary", {}, summary));
  details.addEventListener("toggle", () => { if (details.children.length < 2) details.append(el("div", {}, shown(value, depth))); }, { once: true });
  return details;
}
