// The last turns. A row is built once and then left alone: a finished turn never changes, so refreshing adds
// and removes rows and whatever the reader has open, focused or selected stays as it is.

import { copyable, el, facts, link, ms, pill, score } from "./elements.js";
import { layersOf, refusalOf } from "./layers.js";

const TONES = { answered: "good", abstained: "warn", clarify: "warn", escalated: "warn", fallback: "bad", failed: "bad", client_cancelled: "plain" };

function clock(text) {
  const when = new Date(text);
  if (Number.isNaN(when.getTime())) return el("span", {}, "");
  return el("time", { datetime: when.toISOString(), title: when.toLocaleString() }, when.toLocaleTimeString());
}

function marks(layer) {
  return [
    ...layer.errors.map((what) => pill(what, "bad")),
    ...layer.degraded.map((what) => pill(what, "warn")),
  ];
}

function strip(name, layer) {
  return el("span", { class: `strip ${name}` },
    el("span", { class: "strip-name" }, name === "retrieval" ? "Retrieval" : "Generation"),
    el("span", { class: "strip-text" }, layer.summary.filter(Boolean).join(" · ")),
    marks(layer));
}

function stages(timings) {
  const longest = Math.max(...timings.map(([, value]) => value));
  if (!timings.length) return null;
  return el("ul", { class: "stages" }, timings.map(([name, value]) => {
    const bar = el("span", { class: "stage-bar" });
    bar.style.width = `${longest > 0 ? Math.max(1, (100 * value) / longest) : 0}%`;
    return el("li", {}, el("span", { class: "stage-name" }, name), el("span", { class: "stage-track" }, bar), el("span", { class: "num" }, ms(value)));
  }));
}

function hitsTable(layer) {
  if (!layer.hits.length) return el("p", { class: "muted" }, layer.skipped || "No hits.");
  const body = layer.hits.map((hit) => el("tr", { class: hit.cited ? "cited" : null },
    el("td", { class: "num" }, hit.rank),
    el("td", {}, hit.title || hit.document_id, el("span", { class: "muted block" }, `${hit.document_id} · ${hit.start}–${hit.end}`)),
    el("td", { class: "num" }, score(hit.score)),
    el("td", { class: "num" }, score(hit.dense_score)),
    el("td", { class: "num" }, score(hit.lexical_score, 1)),
    el("td", {}, hit.cited ? pill("cited", "good") : "")));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Hits with scores" }, el("table", {},
    el("thead", {}, el("tr", {},
      ["#", "Hit", "Score", "Dense", "BM25", ""].map((text, i) => el("th", { scope: "col", class: i === 1 || i === 5 ? null : "num" }, text)))),
    el("tbody", {}, body)));
}

function retrievalCard(layer) {
  return el("section", { class: "layer retrieval" },
    el("h4", {}, "Retrieval", marks(layer)),
    facts([
      ["Version", layer.version ? el("code", {}, layer.version) : null],
      ["Arm", layer.arm ? pill(layer.arm, layer.arm === "canary" ? "canary" : "plain") : null],
      ["Confidence", layer.confidence],
      ["Found by", layer.found],
      ["Time", layer.total_ms === undefined ? null : ms(layer.total_ms)],
    ]),
    stages(layer.stages), hitsTable(layer));
}

function generationCard(layer) {
  const body = layer.skipped ? el("p", { class: "muted" }, layer.skipped) : null;
  return el("section", { class: "layer generation" },
    el("h4", {}, "Generation", marks(layer)),
    facts([
      ["Version", layer.version ? el("code", {}, layer.version) : null],
      ["Arm", layer.arm ? pill(layer.arm, layer.arm === "canary" ? "canary" : "plain") : null],
      ["Status", layer.status ? pill(layer.status, TONES[layer.status] || "plain") : null],
      ["Left", layer.tried.length ? layer.tried.join(", ") : null],
      ["Answered by", layer.wroteIt ? pill(layer.wroteIt, layer.wroteIt === "fixed" ? "bad" : "warn") : null],
      ["Tokens", layer.tokens],
      ["Grounded", layer.grounded],
      ["Time", layer.total_ms === undefined ? null : ms(layer.total_ms)],
    ]),
    body, stages(layer.stages),
    layer.checks.length ? el("ul", { class: "checks" }, layer.checks.map((check) =>
      el("li", { class: check.ok ? "good" : "bad" }, el("span", { "aria-hidden": "true" }, check.ok ? "✓ " : "✕ "),
        el("span", { class: "sr" }, check.ok ? "passed: " : "failed: "), check.text))) : null,
    layer.drafts.some((draft) => draft.failure) ? inner("Drafts", layer.drafts.map((draft) => [
      el("p", { class: "muted" }, `${draft.step} · ${draft.attempt} · ${draft.model} · `, draft.failure ? pill(draft.failure, "bad") : pill("used", "good"), draft.detail ? ` ${draft.detail}` : ""),
      el("pre", {}, draft.text || "(nothing)")])) : null,
    layer.prompt.length ? inner("Prompt as it was sent", layer.prompt.map((message) => [
      el("p", { class: "muted" }, message.role), el("pre", {}, message.content)])) : null);
}

function inner(title, content) {
  return el("details", { class: "inner" }, el("summary", {}, title), content);
}

function unanswered(turn) {
  const { problem } = turn.used;
  if (turn.status === "client_cancelled") return el("p", { class: "muted" }, "The client left before the answer was complete.");
  if (!problem) return el("p", { class: "muted" }, "Nothing was sent.");
  return [el("p", { class: "said" }, `${problem.title} (${problem.status}): ${problem.detail}`), problem.fix ? el("p", { class: "muted" }, problem.fix) : null];
}

// Nothing for a citation that is current: only what has changed since needs a reader's eye.
function standing(now) {
  if (!now || now.current !== false) return null;
  if (now.erased_at) return pill("erased", "bad", `Erased for good on ${now.erased_at.slice(0, 10)}`);
  return pill("changed since", "bad", now.changed_at ? `Another text is live since ${now.changed_at.slice(0, 16)}` : "Nothing of this document is live now");
}

function answerCard(turn) {
  const quotes = turn.citations.map((citation) => el("li", { value: citation.n },
    el("blockquote", {}, citation.quote || ""),
    el("p", { class: "muted" }, link(citation.url, citation.title || citation.document_id),
      standing(citation.now), citation.snapshot ? ` · snapshot @${citation.snapshot}` : "", citation.start === undefined ? "" : ` · characters ${citation.start}–${citation.end}`)));
  return el("section", { class: "answer" },
    el("h4", {}, "As the customer saw it"),
    turn.said ? el("p", { class: "said" }, turn.said) : unanswered(turn),
    quotes.length ? el("ol", { class: "quotes" }, quotes) : null,
    facts([
      ["Turn", copyable(turn.id, "turn id")],
      ["Trace", turn.trace_id ? copyable(turn.trace_id, "trace id") : null],
      ["Conversation", turn.conversation ? el("code", {}, turn.conversation) : null],
    ]));
}

function row(turn, onOpen) {
  const { retrieval, generation } = layersOf(turn);
  const body = el("div", { class: "turn-body" });
  const details = el("details", { class: "turn", "data-turn": turn.id },
    el("summary", {},
      el("span", { class: "turn-head" },
        el("span", { class: "question" }, turn.question || "(no question text)"),
        el("span", { class: "turn-meta" }, turn.pinned ? pill("pinned", "plain", "Evaluation: never counted in metrics") : null,
          refusalOf(turn) ? pill(refusalOf(turn)) : null,
          pill(turn.status, TONES[turn.status] || "plain"), clock(turn.created_at))),
      el("span", { class: "strips" }, strip("retrieval", retrieval), strip("generation", generation))),
    body);
  details.addEventListener("toggle", () => { if (details.open && !body.hasChildNodes()) onOpen(turn, body); });
  return el("li", {}, details);
}

export function fillTurn(body, turn) {
  const { retrieval, generation } = layersOf(turn);
  body.replaceChildren(
    turn.question.length > 90 ? el("p", { class: "asked" }, turn.question) : el("p", { class: "sr" }, turn.question),
    el("div", { class: "pair" }, retrievalCard(retrieval), generationCard(generation)),
    answerCard(turn));
}

export class TurnList {
  #rows = new Map();

  constructor(target, onOpen) {
    this.target = target;
    this.onOpen = onOpen;
  }

  // Newest first. A row that is open stays even when newer turns have pushed it off the list.
  show(turns) {
    const wanted = new Set(turns.map((turn) => turn.id));
    for (const [id, item] of this.#rows) {
      if (wanted.has(id) || item.firstChild.open) continue;
      item.remove();
      this.#rows.delete(id);
    }
    let before = this.target.firstChild;
    for (const turn of turns) {
      let item = this.#rows.get(turn.id);
      if (!item) {
        item = row(turn, this.onOpen);
        this.#rows.set(turn.id, item);
        this.target.insertBefore(item, before);
      } else {
        before = item.nextSibling;
      }
    }
  }

  clear() {
    this.#rows.clear();
    this.target.replaceChildren();
  }
}
