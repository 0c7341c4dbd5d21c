// What a reader can say and what the page makes of a turn: pure functions, no DOM.

export const LABELS = [
  ["missing_knowledge", "Missing knowledge"],
  ["stale_knowledge", "Stale knowledge"],
  ["wrong_retrieval", "Wrong retrieval"],
  ["hallucination", "Hallucination"],
  ["bad_format", "Bad format"],
  ["wrong_tone", "Wrong tone"],
  ["weak_reasoning", "Weak reasoning"],
  ["policy_violation", "Policy violation"],
];

export const ENDINGS = [
  ["knowledge_gap", "Knowledge gap", "G"],
  ["training_example", "Training example", "T"],
  ["policy_case", "Policy case", "C"],
  ["regression_test", "Regression test", "R"],
];

export const REASONS = [
  "low_confidence", "escalated", "failed_verification", "no_answer", "negative_feedback", "labelled", "canary_disagreement", "sample",
];

// What usually becomes of a turn with this label; the reader may say something else.
const USUAL = {
  missing_knowledge: "knowledge_gap", stale_knowledge: "knowledge_gap", wrong_retrieval: "regression_test",
  hallucination: "training_example", bad_format: "training_example", wrong_tone: "training_example",
  weak_reasoning: "training_example", policy_violation: "policy_case", undetermined: "regression_test",
};

export const usualEnding = (label) => USUAL[label] || "no_fault";
export const plain = (name) => (name || "").replaceAll("_", " ");

export const EMPTY = { label: null, sub: "", note: "", ending: null, corrected_answer: null };

export function labelled(draft, label, sub = "") {
  const ending = draft.corrected_answer ? "training_example" : usualEnding(label);
  return { ...draft, label, sub, ending };
}

export const passed = (draft) => ({ ...draft, label: null, sub: "", ending: "no_fault", corrected_answer: null });

export function edited(draft, text, proposed) {
  const label = draft.label || proposed?.label || null;
  const sub = draft.label ? draft.sub : proposed?.sub || "";
  return { ...draft, label, sub: label ? sub : "", corrected_answer: text, ending: "training_example" };
}

export function mineOf(review) {
  const own = review.readings.filter((reading) => reading.mine).at(-1);
  return own ? { label: own.label, sub: own.sub, note: own.note, ending: own.ending, corrected_answer: own.corrected_answer } : { ...EMPTY };
}

// Of the queue that the filters leave: what is done, and what waits for whom.
export function progressOf(progress) {
  const read = progress.total - progress.open;
  const rest = [
    progress.second && `${progress.second} ${progress.second === 1 ? "waits" : "wait"} for a second reader`,
    progress.disputed && `${progress.disputed} disputed`,
  ].filter(Boolean);
  return { share: progress.total ? read / progress.total : 0, text: [`${read} of ${progress.total} read`, ...rest].join(" · ") };
}

export function agreementOf({ read_twice: twice, same_label: same, proposed, accepted }) {
  return [
    twice && `two readers gave the same label in ${same} of ${twice}`,
    proposed && `the proposed label was kept in ${accepted} of ${proposed}`,
  ].filter(Boolean).join(" · ");
}

const WORD = /[$€£]?[\p{L}\p{N}][\p{L}\p{N}.,'’-]*[\p{L}\p{N}]|[$€£]?[\p{L}\p{N}]/gu;
const SMALL = new Set("a an and are as at be by can do for from has have if in is it its not of on or so that the then this to was we will with within you your".split(" "));
const stem = (word) => (/\d/.test(word) || word.length < 6 ? word : word.slice(0, word.length - 2));

function stems(text) {
  return new Set((text.toLowerCase().match(WORD) || []).filter((word) => !SMALL.has(word)).map(stem));
}

// A passage in pieces: inside a cited span or not, and in there, words that the answer uses.
export function marked(passage, citations, answer) {
  const said = stems(answer);
  const spans = citations
    .map((citation) => [Math.max(0, citation.start - passage.start), Math.min(passage.text.length, citation.end - passage.start)])
    .filter(([start, end]) => start < end)
    .sort(([one], [other]) => one - other);
  const pieces = [];
  let at = 0;
  for (const [start, end] of spans) {
    if (end <= at) continue;
    pieces.push({ text: passage.text.slice(at, Math.max(at, start)), cited: false });
    pieces.push(...words(passage.text.slice(Math.max(at, start), end), said));
    at = end;
  }
  pieces.push({ text: passage.text.slice(at), cited: false });
  return pieces.filter((piece) => piece.text);
}

function words(text, said) {
  const pieces = [];
  let at = 0;
  for (const found of text.matchAll(WORD)) {
    if (!said.has(stem(found[0].toLowerCase()))) continue;
    pieces.push({ text: text.slice(at, found.index), cited: true }, { text: found[0], cited: true, supports: true });
    at = found.index + found[0].length;
  }
  pieces.push({ text: text.slice(at), cited: true });
  return pieces;
}

// Passages that the answer cites, with what its citations stand for now; then those that it was shown besides.
export function sourcesOf(turn) {
  const answer = turn.answer?.answer || "";
  const citations = (turn.answer?.citations || []).map((citation, place) => ({ ...citation, now: turn.cited?.[place] }));
  const shown = turn.used.passages || [];
  const cited = [...new Set(citations.map((citation) => citation.n))].map((n) => {
    const own = citations.filter((citation) => citation.n === n);
    const passage = shown.find((each) => each.n === n) || { n, title: own[0].title, document_id: own[0].document_id, text: own[0].quote || "", start: own[0].start, effective_from: "" };
    return { passage, now: own.find((citation) => citation.now?.current === false)?.now || own[0].now, url: own[0].url, pieces: marked(passage, own, answer) };
  });
  const named = new Set(cited.map((source) => source.passage.n));
  const besides = shown.filter((passage) => !named.has(passage.n)).map((passage) => ({ passage, now: null, url: "", pieces: [{ text: passage.text, cited: false }] }));
  return { cited, besides };
}
