// The API's shapes turned into what the page shows: pure functions, no DOM. A turn is split into its two layers
// here, so that a failure is always shown on the layer where it happened.

const GENERATION_TROUBLE = new Set(["failed", "fallback"]);

export function partsOf(readiness) {
  const parts = readiness.parts || readiness.checks || {};
  return Object.entries(parts).map(([name, state]) => [name, typeof state === "object" && state !== null ? state : { ok: state === true || state === "ok", detail: String(state) }]);
}

export function railsOf(body) {
  return Object.fromEntries((body.rails || []).map((pointer) => [pointer.rail, pointer]));
}

export function turnsOf(bodies) {
  return (bodies.turns || bodies).map((turn) => ({
    ...turn,
    conversation: turn.conversation_id,
    citations: turn.answer?.citations || [],
    said: turn.answer?.answer || "",
    used: turn.used || {},
    versions: turn.versions || {},
    arms: turn.arms || {},
    degraded: turn.degraded || [],
  }));
}

const about = (layer) => (reason) => reason.split(/[:._]/)[0] === layer;
const degradation = (reason) => (["retrieval", "generation"].includes(reason) ? "degraded" : `degraded: ${reason}`);
const number = (value, digits = 2) => (typeof value === "number" ? value.toFixed(digits) : null);

// Timings come flat (`retrieval`, `retrieval.embed`, ...) or nested ({retrieval: {embed: ..}}).
function timings(turn, layer) {
  const all = turn.answer?.timings_ms || turn.used.timings_ms || {};
  const nested = typeof all[layer] === "object" && all[layer] !== null ? all[layer] : null;
  const stages = nested
    ? Object.entries(nested).filter(([name]) => name !== "total")
    : Object.entries(all).filter(([name]) => name.startsWith(`${layer}.`)).map(([name, value]) => [name.slice(layer.length + 1), value]);
  return { total: nested ? nested.total : all[layer], stages: stages.filter(([, value]) => typeof value === "number") };
}

function retrieval(turn) {
  const { total, stages } = timings(turn, "retrieval");
  const hits = turn.used.hits || [];
  const cited = new Set(turn.citations.map((citation) => citation.n));
  const confidence = turn.answer?.confidence?.retrieval;
  const least = turn.used.abstain_below;
  const problem = turn.used.problem;
  const degraded = turn.degraded.filter(about("retrieval")).map(degradation);
  const failed = problem && (problem.layer || "").startsWith("retrieval");
  const skipped = turn.used.context === "none" ? "Skipped: this turn was pinned to no context." : "";
  return {
    version: turn.versions.knowledge, arm: turn.arms.knowledge,
    total_ms: total, stages, skipped,
    hits: hits.map((hit, i) => ({ ...hit, rank: hit.rank ?? hit.n ?? i + 1, heading: (hit.heading_path || []).join(" › "), cited: cited.has(hit.n ?? hit.rank) })),
    confidence: confidence === undefined || confidence === null ? null
      : `${number(confidence)}${typeof least === "number" ? ` (abstains below ${number(least)})` : ""}`,
    errors: failed ? [problem.title || problem.type || "failed"] : [],
    degraded,
    summary: skipped ? ["skipped"] : [hits.length === 1 ? "1 hit" : `${hits.length} hits`, number(confidence) && `confidence ${number(confidence)}`, duration(total)],
  };
}

function generation(turn) {
  const { total, stages } = timings(turn, "generation");
  const usage = turn.answer?.usage || turn.used.usage || {};
  const problem = turn.used.problem;
  const ran = (usage.completion_tokens || 0) > 0 || stages.length > 0 || (turn.used.drafts || []).length > 0;
  const grounded = turn.answer?.confidence?.grounded;
  const degraded = turn.degraded.filter((reason) => !about("retrieval")(reason)).map(degradation);
  const failed = problem && !(problem.layer || "").startsWith("retrieval");
  return {
    version: turn.versions.model, arm: turn.arms.model, status: turn.status,
    total_ms: ran ? total : undefined, stages: ran ? stages : [],
    tokens: ran ? `${usage.prompt_tokens ?? "–"} in, ${usage.completion_tokens ?? "–"} out` : null,
    grounded: typeof grounded === "number" ? `${Math.round(grounded * 100)} % of the claims` : null,
    skipped: ran ? "" : turn.status === "abstained" ? "Not asked: retrieval gave too little to answer from." : "The model produced nothing.",
    checks: checks(turn),
    errors: failed ? [problem.title || problem.type || "failed"] : GENERATION_TROUBLE.has(turn.status) && !degraded.length ? [turn.status] : [],
    degraded,
    summary: ran ? [turn.versions.model, `${usage.completion_tokens ?? "–"} tokens`, duration(total)] : ["not asked"],
  };
}

function checks(turn) {
  return (turn.used.checks || []).map((check) => ({
    ok: check.ok ?? check.supported ?? check.passed ?? false,
    text: check.text || [check.name || check.check, check.sentence, check.reason].filter(Boolean).join(": "),
  }));
}

function duration(value) {
  if (typeof value !== "number") return null;
  return value >= 995 ? `${(value / 1000).toFixed(1)} s` : `${Math.round(value)} ms`;
}

export function layersOf(turn) {
  return { retrieval: retrieval(turn), generation: generation(turn) };
}
