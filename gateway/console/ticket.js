// One turn on one screen: the ticket, the answer as the customer saw it, its sources, what is proposed and what is said.

import { el, link, pill, score } from "./elements.js";
import { ENDINGS, LABELS, plain, sourcesOf } from "./readings.js";

const TONES = { answered: "good", abstained: "warn", clarify: "warn", escalated: "warn", fallback: "bad", failed: "bad", client_cancelled: "plain" };
const day = (text) => (text || "").slice(0, 10);

function ticket(review, turn) {
  const said = (turn.feedback || []).filter((each) => each.rating || each.comment || each.corrected_answer).map((each) => el("li", {},
    each.rating ? pill(each.rating === "down" ? "rated down" : "rated up", each.rating === "down" ? "bad" : "good") : null,
    each.label ? pill(plain(each.label), "warn") : null,
    each.comment ? el("q", {}, each.comment) : null,
    each.corrected_answer ? el("p", {}, el("span", { class: "muted" }, "Should have said: "), each.corrected_answer) : null));
  return el("section", { class: "card ticket", "aria-label": "Question" },
    el("div", { class: "ticket-head" },
      el("span", { class: "muted" }, `${day(turn.created_at)} ${turn.created_at.slice(11, 16)}`),
      review.reasons.map((reason) => pill(plain(reason), "warn")),
      review.reasons.some((reason) => plain(reason) === plain(review.ticket)) ? null : pill(plain(review.ticket)),
      review.cluster ? el("span", { class: "muted" }, `cluster ${review.cluster}`) : null,
      review.reopened_at ? pill("opened again", "bad", "Changed criteria gave it another cause") : null),
    el("p", { class: "asked-as" }, turn.question),
    said.length ? el("ul", { class: "said-of-it" }, said) : null);
}

function answer(turn) {
  const nowhere = [...new Set((turn.used.checks || []).flatMap((check) => check.unsupported || []))];
  const text = turn.answer?.answer || (turn.used.problem ? `${turn.used.problem.title}: ${turn.used.problem.detail}` : "Nothing was sent.");
  return el("section", { class: "card", "aria-label": "Answer" },
    el("h3", {}, "As the customer saw it ", pill(turn.status, TONES[turn.status] || "plain")),
    el("p", { class: "said" }, text),
    nowhere.length ? el("p", { class: "muted nowhere" }, "A draft had what stands in no passage: ", nowhere.map((value) => pill(value, "bad"))) : null);
}

function piece(part) {
  if (part.supports) return el("mark", { class: "supports" }, part.text);
  return part.cited ? el("mark", {}, part.text) : part.text;
}

function dates(source) {
  const { passage, now } = source;
  return [
    passage.effective_from ? el("span", { class: "date" }, `in force since ${day(passage.effective_from)}`) : null,
    now?.erased_at ? pill(`erased ${day(now.erased_at)}`, "bad") : null,
    now && !now.erased_at && now.current === false ? pill(now.changed_at ? `changed since, ${day(now.changed_at)}` : "taken away since", "bad") : null,
    now?.current === true ? pill("current", "good") : null,
  ];
}

function source(each) {
  const { passage } = each;
  return el("li", { class: "source" },
    el("p", { class: "source-head" }, el("strong", {}, `[${passage.n}] `, link(each.url, passage.title || passage.document_id)),
      el("span", { class: "muted" }, passage.document_id), dates(each)),
    el("p", { class: "passage" }, each.pieces.map(piece)));
}

function sources(turn) {
  const { cited, besides } = sourcesOf(turn);
  return el("section", { class: "card sources", "aria-label": "Sources" },
    el("h3", {}, cited.length ? "What it cites" : "It cites nothing"),
    cited.length ? el("ul", {}, cited.map(source)) : null,
    besides.length ? el("details", { class: "inner", open: !cited.length }, el("summary", {}, `${besides.length} more ${besides.length === 1 ? "passage" : "passages"} in the prompt`), el("ul", {}, besides.map(source))) : null,
    !cited.length && !besides.length ? found(turn) : null);
}

// Without a prompt there are no passages; what retrieval had found says whether the article is missing or was missed.
function found(turn) {
  const { hits = [], confidence, retrieval } = turn.used;
  const sure = typeof confidence === "number" ? ` Confidence ${confidence.toFixed(2)}${typeof retrieval?.abstain_below === "number" ? `, too little below ${retrieval.abstain_below.toFixed(2)}` : ""}.` : "";
  if (!hits.length) return el("p", { class: "muted" }, `Retrieval found nothing.${sure}`);
  return [el("p", { class: "muted" }, `The model was shown no passage. Retrieval had found:${sure}`),
    el("ol", { class: "hits" }, hits.map((hit) => el("li", {}, hit.title || hit.document_id, el("span", { class: "muted" }, ` ${hit.document_id} · ${score(hit.score)}`))))];
}

const verdicts = { true: ["✓", "yes", "good"], false: ["✕", "no", "bad"], null: ["?", "could not be told", "muted"] };

function proposal(review, labels) {
  const label = labels.find((each) => each.source === "auto");
  if (!label) return el("section", { class: "card proposal", "aria-label": "Proposed label" }, el("h3", {}, "No proposal"), el("p", { class: "muted" }, "Nothing has labelled this turn."));
  const checks = label.checks.map((check) => {
    const [mark, words, tone] = verdicts[String(check.value)];
    return el("li", {}, el("span", { class: tone, "aria-hidden": "true" }, `${mark} `), el("span", { class: "sr" }, `${words}: `), plain(check.name),
      check.detail ? el("span", { class: "muted" }, ` – ${check.detail}`) : null);
  });
  return el("section", { class: "card proposal", "aria-label": "Proposed label" },
    el("h3", {}, "Proposed: ", label.label ? pill(plain(label.label), "bad") : pill("passed", "good"), label.sub ? el("span", { class: "muted" }, ` ${plain(label.sub)}`) : null),
    el("p", { class: "muted" }, label.rule ? `Rule ${label.rule}` : "No rule", label.criteria ? ` · criteria ${label.criteria}` : "",
      label.contributing.length ? ` · also ${label.contributing.map((cause) => plain(cause.label)).join(", ")}` : ""),
    checks.length ? el("ul", { class: "checks" }, checks) : null);
}

const key = (name) => el("kbd", {}, name);

function choices(draft, act) {
  const button = (name, text, pressed, action) => el("button", { type: "button", class: "choice", "aria-pressed": pressed ? "true" : "false", "data-key": name, on: { click: action } }, key(name), el("span", {}, text));
  return [
    el("div", { class: "choices", role: "group", "aria-label": "Label" },
      LABELS.map(([name, text], place) => button(String(place + 1), text, draft.label === name, () => act.label(name)))),
    el("div", { class: "keys" },
      el("div", { class: "choices endings", role: "group", "aria-label": "What becomes of it" },
        button("P", "Pass", draft.ending === "no_fault", act.pass),
        ENDINGS.map(([name, text, letter]) => button(letter, text, draft.ending === name, () => act.ending(name)))),
      el("div", { class: "choices moves", role: "group", "aria-label": "Moves" },
        [["A", "Accept", act.accept], ["E", "Edit", act.edit], ["S", "Sub-code", act.sub], ["M", "Note", act.note], ["U", "Undo", act.undo], ["N", "Next", act.next]]
          .map(([letter, text, action]) => button(letter, text, false, action)))),
  ];
}

function others(review) {
  const told = review.readings.filter((reading) => !reading.mine);
  if (!told.length) return null;
  return el("ul", { class: "others" }, told.map((reading) => el("li", {}, el("strong", {}, reading.reader), ` said ${plain(reading.label) || "pass"}, ${plain(reading.ending)}`, reading.note ? `: ${reading.note}` : "")));
}

function saying(draft, review, saved) {
  const state = !saved ? ["Not said yet", "plain"] : review.state === "second" ? ["waits for a second reader", "warn"] : [review.state, review.state === "closed" ? "good" : "warn"];
  return el("section", { class: "card saying", "aria-label": "Your reading" },
    el("div", { class: "saying-head" }, el("h3", {}, "Your reading"), pill(state[0], state[1]),
      draft.ending ? el("span", { id: "chosen" }, draft.label ? plain(draft.label) : draft.ending === "no_fault" ? "pass" : "no label", draft.sub ? ` (${draft.sub})` : "", " → ", plain(draft.ending)) : null),
    draft.note ? el("p", {}, el("span", { class: "muted" }, "Note: "), draft.note) : null,
    draft.corrected_answer ? el("p", {}, el("span", { class: "muted" }, "Corrected: "), draft.corrected_answer) : null,
    others(review));
}

export function showReview(target, { review, turn, labels, draft, saved }, act) {
  target.replaceChildren(
    el("article", { class: "turn-review", "data-review": review.id, "data-state": review.state, "data-saved": saved ? "yes" : "no" },
      el("div", { class: "columns" },
        el("div", { class: "column" }, ticket(review, turn), answer(turn), proposal(review, labels)),
        el("div", { class: "column" }, sources(turn))),
      el("div", { class: "desk" }, saying(draft, review, saved), choices(draft, act))));
}

export function showNothing(target, text) {
  target.replaceChildren(el("div", { class: "empty" }, el("p", {}, text)));
}
