// What is live on each rail, and the health of each part.

import { el, facts, pill } from "./elements.js";

const percent = (basisPoints) => `${(basisPoints / 100).toFixed(basisPoints % 100 ? 2 : 0)} %`;

function split(pointer) {
  const weight = pointer.canary ? pointer.canary_weight_bp || 0 : 0;
  const bar = el("div", { class: "split", role: "img", "aria-label": `stable ${percent(10000 - weight)}, canary ${percent(weight)}` },
    el("span", { class: "stable" }), weight > 0 && el("span", { class: "canary" }));
  bar.firstChild.style.flexGrow = String(10000 - weight);
  if (weight > 0) bar.lastChild.style.flexGrow = String(weight);
  return bar;
}

const version = (id) => (id ? el("code", {}, id) : el("span", { class: "muted" }, "none"));

function rail(name, title, pointer) {
  if (!pointer) return el("article", { class: `card rail ${name}` }, el("h3", {}, title), el("p", { class: "muted" }, "Not known yet."));
  const canary = pointer.canary
    ? el("span", {}, version(pointer.canary), " ", pill(percent(pointer.canary_weight_bp || 0), "canary"))
    : version(null);
  return el("article", { class: `card rail ${name}` },
    el("h3", {}, title),
    split(pointer),
    facts([
      ["Stable", pointer.stable ? version(pointer.stable) : pill("nothing is stable", "bad")],
      ["Canary", canary],
      ["Previous", version(pointer.previous)],
      ...(pointer.shadow ? [["Shadow", version(pointer.shadow)]] : []),
      ...(name === "knowledge" ? [["Snapshot", pointer.snapshot === undefined ? null : snapshot(pointer.snapshot)]] : []),
      ...(name === "model" ? [["Fallback", version(pointer.fallback)]] : []),
    ]));
}

function snapshot(number) {
  return number ? el("code", {}, `@${number}`) : el("span", { class: "muted" }, "nothing published yet");
}

export function showRails(target, rails) {
  target.replaceChildren(
    rail("knowledge", "Knowledge rail", rails.knowledge),
    rail("model", "Model rail", rails.model));
}

function part(name, state) {
  const tone = state.ok ? "good" : state.required === false ? "warn" : "bad";
  return el("li", { class: `part ${tone}` },
    el("span", { class: "dot", "aria-hidden": "true" }),
    el("strong", {}, name),
    el("span", { class: "sr" }, tone === "good" ? " is up. " : tone === "warn" ? " is degraded. " : " is down. "),
    el("span", { class: "muted" }, state.detail || ""));
}

export function showHealth(target, parts) {
  target.replaceChildren(...parts.map(([name, state]) => part(name, state)));
}
