// The review page's loop: one turn at a time, keys for everything. What is said is stored at once; U takes it back.

import { forgetKey, giveReading, keepKey, readExport, readLabels, readReview, readReviews, readTurn, Refused, storedKey, takeKeyFromAddress, undoReading } from "./api.js";
import { el } from "./elements.js";
import { agreementOf, edited, EMPTY, ENDINGS, labelled, LABELS, mineOf, passed, plain, progressOf, REASONS } from "./readings.js";
import { showNothing, showReview } from "./ticket.js";

const BATCH = 50;
const at = (id) => document.getElementById(id);

let waiting = []; // ids that come next
let spoken = []; // ids that this tab has said something about, the last one last
let shown = null; // {review, turn, labels, draft, saved}
let last = null; // the last id that the queue has given
let coming = null; // {id, loading}: the next turn, fetched while this one is read

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
  at("review").replaceChildren();
}

function failed(error) {
  if (error instanceof Refused && error.status === 401) gate("This key is not valid", "The gateway does not know this key, or it was revoked. Paste one with scope review or admin.");
  else if (error instanceof Refused && error.status === 403) gate("This key may not review", `${error.message} Use a key with scope review or admin.`);
  say("down", `${error.message}${error.fix ? ` ${error.fix}` : ""}`);
}

// One thing at a time: a key that is pressed while an answer is under way is not lost, it waits.
let queue = Promise.resolve();
function doing(work) {
  queue = queue.then(async () => {
    document.body.dataset.busy = "yes";
    try {
      await work();
    } catch (error) {
      failed(error);
    } finally {
      document.body.dataset.busy = "no";
    }
  });
  return queue;
}

const mode = () => at("filter-state").value;
const filters = () => ({ reason: at("filter-reason").value, label: at("filter-label").value, cluster: at("filter-cluster").value });

function tell(found) {
  const { share, text } = progressOf(found.progress);
  at("progress-bar").style.width = `${Math.round(100 * share)}%`;
  at("progress").textContent = text;
  at("agreement").textContent = agreementOf(found.progress.agreement);
  const known = new Set([...at("filter-cluster").options].map((option) => option.value));
  for (const cluster of found.clusters) if (!known.has(cluster)) at("filter-cluster").append(el("option", { value: cluster }, cluster));
}

async function fill() {
  const found = await readReviews({ ...filters(), state: mode(), unread: mode() !== "disputed", limit: BATCH, after: last });
  if (found.progress) tell(found); // later pages come without: every reading asks anew
  waiting = found.reviews.map((review) => review.id);
  if (waiting.length) last = waiting.at(-1);
}

async function load(id) {
  const [review, turn, labels] = await Promise.all([readReview(id), readTurn(id), readLabels(id)]);
  const draft = mineOf(review);
  return { review, turn, labels: labels.labels, draft, saved: draft.ending !== null };
}

function draw() {
  showReview(at("review"), shown, act);
}

async function open(id) {
  shown = await (coming?.id === id ? coming.loading : load(id));
  coming = null;
  draw();
  scrollTo(0, 0);
  if (waiting.length) {
    coming = { id: waiting[0], loading: load(waiting[0]) };
    coming.loading.catch(() => { coming = null; });
  }
}

async function next() {
  if (!waiting.length) await fill();
  if (waiting.length) return open(waiting.shift());
  shown = null;
  const words = { open: "Nothing waits for a first reader.", second: "Nothing waits for you as the second reader.", disputed: "No dispute waits." };
  return showNothing(at("review"), `${words[mode()]} ${Object.values(filters()).some(Boolean) ? "Other filters may show more." : ""}`);
}

async function restart() {
  waiting = [];
  coming = null;
  last = null;
  await next();
  document.body.classList.remove("locked");
  at("gate").hidden = true;
  at("forget").hidden = false;
  say("live", "Live");
}

// Stored at once where it says what becomes of the turn; a note alone waits for that.
async function keep(draft) {
  if (!shown) return;
  if (draft.ending === null) {
    shown = { ...shown, draft };
    return draw();
  }
  const review = await giveReading(shown.review.id, { ...draft, settles: mode() === "disputed" });
  if (!shown.saved) spoken.push(review.id);
  shown = { ...shown, review, draft, saved: true };
  draw();
  say("live", "Kept");
  tell(await readReviews({ ...filters(), limit: 1 }));
}

async function undo() {
  const id = shown?.saved ? shown.review.id : spoken.at(-1);
  if (!id) return say("live", "Nothing to undo");
  if (shown && shown.review.id !== id) waiting.unshift(shown.review.id);
  const review = await undoReading(id);
  spoken = spoken.filter((each) => each !== id);
  await open(id);
  const before = mineOf(review);
  shown = { ...shown, review, draft: before.ending ? before : { ...EMPTY }, saved: before.ending !== null };
  if (shown.saved) spoken.push(id);
  draw();
  say("live", "Taken back");
  tell(await readReviews({ ...filters(), limit: 1 }));
}

let edit = null; // what the editor's text is for
function editing({ title, hint, text, use }) {
  edit = use;
  at("editor-title").textContent = title;
  at("editor-hint").textContent = hint;
  at("editor-text").value = text;
  at("editor").showModal();
  at("editor-text").focus();
}

const withShown = (work) => () => { if (shown) doing(() => (shown ? work() : undefined)); };

const act = {
  label: (name) => withShown(() => keep(labelled(shown.draft, name, shown.draft.label === name ? shown.draft.sub : "")))(),
  pass: withShown(() => keep(passed(shown.draft))),
  ending: (name) => withShown(() => keep({ ...shown.draft, ending: name }))(),
  accept: withShown(() => {
    const { proposed } = shown.review;
    if (!proposed) return say("live", "Nothing is proposed: choose a label");
    return keep(proposed.label ? labelled(shown.draft, proposed.label, proposed.sub) : passed(shown.draft));
  }),
  edit: withShown(() => editing({
    title: "What it should have said", hint: "Becomes the corrected answer of a training example.",
    text: shown.draft.corrected_answer ?? shown.turn.answer?.answer ?? "",
    use: (text) => keep(text ? edited(shown.draft, text, shown.review.proposed) : { ...shown.draft, corrected_answer: null }),
  })),
  sub: withShown(() => {
    if (!shown.draft.label) return say("live", "A sub-code needs a label");
    return editing({ title: "Sub-code", hint: `Of ${plain(shown.draft.label)}, such as index or over_abstain.`, text: shown.draft.sub, use: (text) => keep({ ...shown.draft, sub: text.replaceAll(/\s+/g, "_") }) });
  }),
  note: withShown(() => editing({ title: "Note", hint: "For whoever works on it next.", text: shown.draft.note, use: (text) => keep({ ...shown.draft, note: text }) })),
  undo: () => doing(undo),
  next: () => doing(next),
};

const KEYS = {
  ...Object.fromEntries(LABELS.map(([name], place) => [String(place + 1), () => act.label(name)])),
  ...Object.fromEntries(ENDINGS.map(([name, , letter]) => [letter.toLowerCase(), () => act.ending(name)])),
  p: act.pass, a: act.accept, e: act.edit, s: act.sub, m: act.note, u: act.undo, n: act.next,
};

addEventListener("keydown", (event) => {
  if (at("editor").open) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      const text = at("editor-text").value.trim();
      at("editor").close();
      doing(() => edit(text));
    }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("input, select, textarea")) return;
  const action = KEYS[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});

for (const id of ["filter-state", "filter-reason", "filter-label", "filter-cluster"]) {
  at(id).addEventListener("change", () => { at(id).blur(); doing(restart); });
}
for (const reason of REASONS) at("filter-reason").append(el("option", { value: reason }, plain(reason)));
for (const [name, text] of LABELS) at("filter-label").append(el("option", { value: name }, text));

for (const format of ["csv", "jsonl"]) {
  at(`export-${format}`).addEventListener("click", () => doing(async () => {
    const address = URL.createObjectURL(await readExport({ ...filters(), format, limit: 10000 }));
    el("a", { href: address, download: `reviews.${format}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }));
}

at("gate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(at("gate-key").value);
  at("gate-key").value = "";
  doing(restart);
});
at("forget").addEventListener("click", () => { forgetKey(); begin(); });
addEventListener("hashchange", () => { takeKeyFromAddress(); begin(); });

function begin() {
  spoken = [];
  shown = null;
  if (storedKey()) return doing(restart);
  say("wait", "No key");
  return gate("A key is needed", "Paste an API key with scope review or admin. Each reader has a key of their own.");
}

takeKeyFromAddress();
begin();
