// The API's shapes turned into what the page shows: pure functions, no DOM. A turn is split into its two layers
// here, so that a failure is always shown on the layer where it happened.

export function partsOf(readiness) {
  const parts = readiness.parts || readiness.checks || {};
  return Object.entries(parts).map(([name, state]) => [name, typeof state === "object" && state !== null ? state : { ok: state === true || state === "ok", detail: String(state) }]);
}

export function railsOf(body) {
  return Object.fromEntries((body.rails || []).map((pointer) => [pointer.rail, pointer]));
}

// A turn of the list, which has no texts.
export function rowsOf(body) {
  return body.turns.map((row) => ({
    ...row, citations: [], said: "",
    used: {
      confidence: row.confidence.retrieval, grounded: row.confidence.grounded, usage: row.usage,
      timings_ms: row.timings_ms, drafts: row.drafts, problem: row.problem && { title: row.problem }, tried: row.tried,
    },
    hitCount: row.hits,
  }));
}

// A turn with everything that was used for it.
export function turnOf(turn) {
  return {
    ...turn,
    conversation: turn.conversation_id,
    citations: (turn.answer?.citations || []).map((citation, place) => ({ ...citation, now: turn.cited?.[place] })),
    said: turn.answer?.answer || "",
    fallback: turn.answer?.fallback,
    hitCount: (turn.used.hits || []).length,
  };
}

const RETRIEVAL_PARTS = new Set(["retrieval", "embed", "search", "rerank", "rewrite"]);
const REFUSED = "Not asked: the request was refused.";
const number = (value, digits = 2) => (typeof value === "number" ? value.toFixed(digits) : null);
const degradation = (part) => (part === "retrieval" || part === "generation" ? "degraded" : `degraded: ${part}`);
const took = (pairs) => pairs.filter(([, value]) => typeof value === "number");

function timingsOf(turn) {
  return turn.used.timings_ms || {};
}

// A problem (RFC 9457) names no layer. A refusal is the request's fault, so neither's; else it belongs to the layer
// that did not finish its work. What fails before retrieval is the model rail: without knowledge a turn goes on.
function problemLayer(turn) {
  if (!turn.used.problem || turn.status === "rejected") return null;
  const { retrieval: searched, assemble: assembled } = timingsOf(turn);
  return searched !== undefined && assembled === undefined ? "retrieval" : "generation";
}

export const refusalOf = (turn) => (turn.status === "rejected" && turn.used.problem ? problemText(turn) : null);

const problemText = (turn) => turn.used.problem.title || turn.used.problem.detail || "failed";

function retrieval(turn) {
  const { retrieval: used = {}, confidence } = turn.used;
  const total = timingsOf(turn).retrieval;
  const cited = new Set(turn.citations.map((citation) => citation.n));
  const hits = (turn.used.hits || []).map((hit) => ({ ...hit, cited: cited.has(hit.rank) }));
  const skipped = total !== undefined || turn.degraded.includes("retrieval") ? ""
    : turn.status === "rejected" ? REFUSED
    : turn.pinned && turn.status !== "failed" ? "Not asked: this turn was pinned to given passages or to none."
    : "Retrieval was not asked.";
  const least = used.abstain_below;
  const weak = typeof confidence === "number" && turn.status === "abstained" && !(turn.used.drafts || []).length;
  return {
    version: turn.versions.knowledge, arm: turn.arms.knowledge,
    total_ms: total, stages: took(Object.entries(used.stages_ms || {})), skipped, hits,
    confidence: number(confidence) && `${number(confidence)}${typeof least === "number" ? `, abstains below ${number(least)}` : ""}`,
    found: hits.length && used.mode ? `${used.mode}, from ${used.candidates} candidates${used.underfilled ? ", fewer than asked for exist" : ""}` : null,
    errors: problemLayer(turn) === "retrieval" ? [problemText(turn)] : [],
    degraded: [
      ...turn.degraded.filter((part) => RETRIEVAL_PARTS.has(part)).map(degradation),
      ...(weak ? ["low confidence"] : []),
    ],
    summary: skipped ? ["not asked"] : [
      turn.hitCount === 1 ? "1 hit" : `${turn.hitCount} hits`, number(confidence) && `confidence ${number(confidence)}`, duration(total)],
  };
}

function generation(turn) {
  const timings = timingsOf(turn);
  const usage = turn.used.usage || {};
  const drafts = turn.used.drafts || [];
  const ran = drafts.length > 0 || turn.status === "client_cancelled" && timings.assemble !== undefined;
  const left = turn.status === "client_cancelled";
  const grounded = turn.used.grounded;
  const rejected = drafts.filter((draft) => draft.failure);
  return {
    version: turn.versions.model, arm: turn.arms.model, status: turn.status,
    total_ms: ran ? timings.generation : undefined,
    stages: ran ? took([["first token", timings.first_token], ["generation", timings.generation], ["verify", timings.verify]]) : [],
    tokens: ran && !left ? `${usage.prompt_tokens ?? "–"} in, ${usage.completion_tokens ?? "–"} out` : null,
    grounded: typeof grounded === "number" ? `${Math.round(grounded * 100)} % of the claims` : null,
    skipped: ran ? "" : turn.status === "rejected" ? REFUSED : turn.status === "abstained" ? "Not asked: retrieval gave too little to answer from." : "The model was not asked.",
    prompt: turn.used.prompt || [], drafts,
    tried: (turn.used.tried || []).map((left) => `${left.step}: ${left.because}${left.failure && left.failure !== "engine" ? ` (${left.failure})` : ""}`),
    wroteIt: turn.fallback ? turn.fallback.step : null,
    checks: checks(turn),
    errors: [
      ...(problemLayer(turn) === "generation" ? [problemText(turn)] : []),
      ...new Set(rejected.map((draft) => (draft.failure === "engine" ? "engine failed" : `draft ${draft.failure}`))),
    ],
    degraded: turn.degraded.filter((part) => !RETRIEVAL_PARTS.has(part)).map(degradation),
    summary: ran ? [drafts.at(-1)?.model || turn.versions.model, left ? "the client left" : `${usage.completion_tokens ?? "–"} tokens`, duration(timings.generation)] : ["not asked"],
  };
}

// The sentences that were checked, and what was dropped or noticed on the way.
function checks(turn) {
  const sentences = (turn.used.checks || []).map((check) => ({
    ok: check.supported,
    text: [
      check.sentence,
      check.n ? ` [${check.n}]` : "",
      check.unsupported?.length ? ` – stands in no passage: ${check.unsupported.join(", ")}` : "",
      check.tone?.length ? ` – tone: ${check.tone.join(", ")}` : "",
    ].join(""),
  }));
  const rule = turn.used.handover;
  const passedOn = rule ? [{ ok: true, text: `passed to a person by a rule: ${rule.reason}, like “${rule.like}”` }] : [];
  return [...passedOn, ...sentences, ...(turn.used.flags || []).map((flag) => ({ ok: false, text: flag }))];
}

function duration(value) {
  if (typeof value !== "number") return null;
  return value >= 995 ? `${(value / 1000).toFixed(1)}\u00a0s` : `${Math.round(value)}\u00a0ms`;
}

export function layersOf(turn) {
  return { retrieval: retrieval(turn), generation: generation(turn) };
}
